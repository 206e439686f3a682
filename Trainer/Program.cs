using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer;
using LlmPipeline.Trainer.Coordinator;
using LlmPipeline.Trainer.Worker;

var builder = WebApplication.CreateBuilder(args);
builder.AddServiceDefaults();
var role = TrainerRoles.Read(builder.Configuration);
if (role == TrainerRole.Coordinator)
{
    builder.AddCoordinator();
}
else
{
    builder.AddWorker();
}

var app = builder.Build();
app.MapDefaultEndpoints();
_ = role == TrainerRole.Coordinator ? app.MapCoordinator() : app.MapWorker();
await app.RunAsync();
