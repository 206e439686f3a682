// text -> preprocessor -> trainer <-> worker-0 .. worker-n -> evaluator -> gateway: the whole pipeline, and nothing else.
using LlmPipeline.AppHost;

if (!Options.TryRead(args, out var options))
{
    return Options.UsageExitCode;
}
var builder = DistributedApplication.CreateBuilder(options.Arguments);

// A folder beside this file, unless ConnectionStrings:storage names an Azure Storage account, or --azurite starts its emulator.
builder.Configuration["ConnectionStrings:storage"] ??= options.Azurite
    ? "UseDevelopmentStorage=true"
    : $"folder={Path.Combine(builder.AppHostDirectory, ".llmpipeline")}";
var storage = builder.AddConnectionString("storage");
if (options.Azurite)
{
    builder.AddExecutable("azurite", "npx", builder.AppHostDirectory, Options.AzuriteArguments);
}

var preprocessor = AddService<Projects.Preprocessor>("preprocessor");
for (var replica = 1; replica < options.Preprocessors; replica++)
{
    // They find their work in storage.
    AddService<Projects.Preprocessor>($"preprocessor-{replica}");
}

var evaluator = AddService<Projects.Evaluator>("evaluator");
var trainer = AddService<Projects.Trainer>("trainer")
    .WithEnvironment("Trainer__Role", "coordinator")
    .WithEnvironment("Preprocessor__Endpoint", preprocessor.GetEndpoint("grpc"))
    .WithEnvironment("Evaluator__Endpoint", evaluator.GetEndpoint("grpc"));
for (var rank = 0; rank < options.Workers; rank++)
{
    AddService<Projects.Trainer>($"worker-{rank}")
        .WithEnvironment("Trainer__Role", "worker")
        .WithEnvironment("Trainer__Endpoint", trainer.GetEndpoint("grpc"))
        .WithEnvironment("Worker__Device", options.DeviceOf(rank))
        .WaitFor(trainer);
}

var gateway = AddService<Projects.Gateway>("gateway", options.HttpPort, options.GrpcPort)
    .WithEnvironment("Preprocessor__Endpoint", preprocessor.GetEndpoint("grpc"))
    .WithEnvironment("Trainer__Endpoint", trainer.GetEndpoint("grpc"))
    .WithEnvironment("Evaluator__Endpoint", evaluator.GetEndpoint("grpc"))
    .WithExternalHttpEndpoints()
    .WaitFor(preprocessor).WaitFor(trainer).WaitFor(evaluator);
if (options.Quickstart)
{
    builder.AddProject<Projects.Cli>("quickstart")
        .WithArgs(["quickstart", .. options.QuickstartArguments])
        .WithEnvironment("LLMPIPE_ENDPOINT", gateway.GetEndpoint("grpc"))
        .WithEnvironment("LLMPIPE_REST", gateway.GetEndpoint("http"))
        .WaitFor(gateway);
}

await builder.Build().RunAsync();
return Environment.ExitCode;

// HTTP/1.1 for health and REST, and HTTP/2 without TLS for gRPC: Kestrel needs a port for each.
IResourceBuilder<ProjectResource> AddService<T>(string name, int? httpPort = null, int? grpcPort = null)
    where T : IProjectMetadata, new() => builder.AddProject<T>(name)
        .WithHttpEndpoint(port: httpPort)
        .WithHttpEndpoint(port: grpcPort, name: "grpc", env: "GRPC_PORT")
        .WithEndpoint("grpc", endpoint => endpoint.Transport = "http2")
        .WithHttpHealthCheck("/health/ready", endpointName: "http")
        .WithReference(storage);
