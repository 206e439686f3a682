using LlmPipeline.AppHost.Launcher;
using Microsoft.Extensions.Configuration;

namespace Aspire.Hosting;

/// <summary>The part of Aspire's vocabulary that AppHost.cs speaks, with the same names, parameters and constraints.</summary>
internal static class ResourceBuilderExtensions
{
    public static IResourceBuilder<ProjectResource> AddProject<TProject>(this IDistributedApplicationBuilder builder, string name)
        where TProject : IProjectMetadata, new()
    {
        var project = new TProject();
        var directory = Path.GetDirectoryName(project.ProjectPath)!;
        var resource = new ProjectResource(name) { Command = ["dotnet", "exec", project.AssemblyPath], WorkingDirectory = directory };
        foreach (var (variable, value) in LaunchProfile.Read(directory))
        {
            resource.Environment[variable] = () => value;
        }

        return builder.AddResource(resource);
    }

    public static IResourceBuilder<ExecutableResource> AddExecutable(
        this IDistributedApplicationBuilder builder, string name, string command, string workingDirectory, params string[]? args)
    {
        var resource = new ExecutableResource(name)
        {
            Command = [command],
            WorkingDirectory = Path.GetFullPath(workingDirectory, builder.AppHostDirectory),
        };
        resource.Arguments.AddRange(args ?? []);
        return builder.AddResource(resource);
    }

    public static IResourceBuilder<IResourceWithConnectionString> AddConnectionString(
        this IDistributedApplicationBuilder builder, string name) => builder.AddResource(new ConnectionStringResource(name));

    public static IResourceBuilder<T> WithReference<T>(
        this IResourceBuilder<T> builder, IResourceBuilder<IResourceWithConnectionString> source) where T : IResourceWithEnvironment
    {
        var name = source.Resource.Name;
        var configuration = builder.ApplicationBuilder.Configuration;
        return builder.Set($"ConnectionStrings__{name}", () => configuration.GetConnectionString(name)
            ?? throw new LauncherException($"There is no connection string '{name}'. Set ConnectionStrings__{name}."));
    }

    public static IResourceBuilder<T> WithEnvironment<T>(this IResourceBuilder<T> builder, string name, string? value)
        where T : IResourceWithEnvironment => builder.Set(name, () => value ?? "");

    public static IResourceBuilder<T> WithEnvironment<T>(
        this IResourceBuilder<T> builder, string name, EndpointReference endpointReference)
        where T : IResourceWithEnvironment => builder.Set(name, () => endpointReference.Url);

    public static IResourceBuilder<T> WithArgs<T>(this IResourceBuilder<T> builder, params string[] args) where T : IResourceWithArgs
    {
        ProcessOf(builder).Arguments.AddRange(args);
        return builder;
    }

    public static IResourceBuilder<T> WithHttpEndpoint<T>(
        this IResourceBuilder<T> builder, int? port = null, int? targetPort = null, string? name = null, string? env = null)
        where T : IResourceWithEndpoints
    {
        // Without Aspire's proxy there is one port: the one that the process listens on.
        ProcessOf(builder).Endpoints.Add(new EndpointAnnotation { Name = name ?? "http", Port = targetPort ?? port, Variable = env });
        return builder;
    }

    public static IResourceBuilder<T> WithEndpoint<T>(
        this IResourceBuilder<T> builder, string endpointName, Action<EndpointAnnotation> callback) where T : IResourceWithEndpoints
    {
        callback(ProcessOf(builder).Endpoint(endpointName));
        return builder;
    }

    public static IResourceBuilder<T> WithExternalHttpEndpoints<T>(this IResourceBuilder<T> builder) where T : IResourceWithEndpoints
    {
        foreach (var endpoint in ProcessOf(builder).Endpoints)
        {
            endpoint.IsExternal = true;
        }

        return builder;
    }

    public static IResourceBuilder<T> WithHttpHealthCheck<T>(
        this IResourceBuilder<T> builder, string? path = null, int? statusCode = null, string? endpointName = null)
        where T : IResourceWithEndpoints
    {
        if (statusCode is not (null or 200))
        {
            throw new NotSupportedException($"Health of '{builder.Resource.Name}' is status 200 here, not {statusCode}.");
        }

        ProcessOf(builder).HealthCheck = (endpointName ?? "http", path ?? "/");
        return builder;
    }

    public static IResourceBuilder<T> WaitFor<T>(this IResourceBuilder<T> builder, IResourceBuilder<IResource> dependency)
        where T : IResourceWithWaitSupport
    {
        if (dependency.Resource is ProcessResource process)
        {
            ProcessOf(builder).WaitsFor.Add(process);
        }

        return builder;
    }

    public static EndpointReference GetEndpoint<T>(this IResourceBuilder<T> builder, string name) where T : IResourceWithEndpoints =>
        new(ProcessOf(builder).Endpoint(name));

    internal static EndpointAnnotation Endpoint(this ProcessResource resource, string name) =>
        resource.Endpoints.FirstOrDefault(endpoint => endpoint.Name == name)
        ?? throw new InvalidOperationException($"'{resource.Name}' has no endpoint '{name}'.");

    private static IResourceBuilder<T> Set<T>(this IResourceBuilder<T> builder, string name, Func<string> value) where T : IResource
    {
        ProcessOf(builder).Environment[name] = value;
        return builder;
    }

    private static ProcessResource ProcessOf<T>(IResourceBuilder<T> builder) where T : IResource => (ProcessResource)(object)builder.Resource;
}
