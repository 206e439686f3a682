// An AppHost like the real one, of services that do nothing: store <- back <- front, and with --quickstart a task.
var builder = DistributedApplication.CreateBuilder(args);
var ports = builder.Configuration["front-port"];
builder.Configuration["ConnectionStrings:storage"] ??= "folder=somewhere";
var storage = builder.AddConnectionString("storage");

var store = AddService("store", builder.Configuration["store-arguments"]);
var back = AddService("back", builder.Configuration["back-arguments"])
    .WithEnvironment("Store__Endpoint", store.GetEndpoint("grpc"))
    .WaitFor(store);
var front = AddService("front", builder.Configuration["front-arguments"], ports is null ? null : int.Parse(ports, System.Globalization.CultureInfo.InvariantCulture))
    .WithExternalHttpEndpoints()
    .WaitFor(back);
if (builder.Configuration["quickstart"] is not null)
{
    builder.AddProject<Projects.FakeService>("quickstart")
        .WithArgs("--exit", builder.Configuration["exit"] ?? "0")
        .WaitFor(front);
}

if (builder.Configuration["tree"] is not null)
{
    builder.AddExecutable("tree", "sh", ".", "-c", "trap '' TERM INT; sleep 1000 & echo child $!; wait; wait");
}

if (builder.Configuration["plain"] is not null)
{
    builder.AddExecutable("plain", "sh", ".", "-c", "echo plain $$; exec sleep 1000");
}

await builder.Build().RunAsync();

IResourceBuilder<ProjectResource> AddService(string name, string? arguments, int? port = null) => builder.AddProject<Projects.FakeService>(name)
    .WithHttpEndpoint(port: port)
    .WithHttpEndpoint(name: "grpc", env: "GRPC_PORT")
    .WithEndpoint("grpc", endpoint => endpoint.Transport = "http2")
    .WithHttpHealthCheck("/health/ready")
    .WithReference(storage)
    .WithArgs((arguments ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries));
