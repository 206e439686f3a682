using LlmPipeline.Evaluator;
using LlmPipeline.ServiceDefaults;

var builder = WebApplication.CreateBuilder(args);
builder.AddServiceDefaults();
builder.AddEvaluator();

var app = builder.Build();
app.MapDefaultEndpoints();
app.MapEvaluator();
await app.RunAsync();
