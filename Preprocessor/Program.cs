using LlmPipeline.Preprocessor;
using LlmPipeline.ServiceDefaults;

var builder = WebApplication.CreateBuilder(args);
builder.AddServiceDefaults();
builder.AddPreprocessor();

var app = builder.Build();
app.MapDefaultEndpoints();
app.MapPreprocessor();
await app.RunAsync();
