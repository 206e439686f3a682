using System.Reflection;
using LlmPipeline.AppHost.Launcher;
using Microsoft.Extensions.Configuration;

namespace Aspire.Hosting;

/// <summary>The description of an application.</summary>
internal interface IDistributedApplicationBuilder
{
    ConfigurationManager Configuration { get; }

    string AppHostDirectory { get; }

    IResourceBuilder<T> AddResource<T>(T resource) where T : IResource;

    DistributedApplication Build();
}

/// <summary>The application: what the builder described, as processes of this machine.</summary>
internal sealed class DistributedApplication(IReadOnlyList<ProcessResource> resources, IConfiguration configuration)
{
    public static IDistributedApplicationBuilder CreateBuilder(string[] args) => new Builder(args);

    /// <summary>Runs until Ctrl-C, SIGTERM, or a task that failed; sets <see cref="Environment.ExitCode"/>.</summary>
    public async Task RunAsync(CancellationToken cancellationToken = default)
    {
        using var signals = new StopSignals(cancellationToken);
        using var supervisor = new Supervisor(resources, new LauncherSettings(configuration), signals);
        Environment.ExitCode = await supervisor.RunAsync();
    }

    private sealed class Builder : IDistributedApplicationBuilder
    {
        private readonly List<IResource> _resources = [];

        public Builder(string[] args)
        {
            AppHostDirectory = Assembly.GetExecutingAssembly().GetCustomAttributes<AssemblyMetadataAttribute>()
                .First(metadata => metadata.Key == nameof(AppHostDirectory)).Value!;
            Configuration.SetBasePath(AppHostDirectory)
                .AddJsonFile("appsettings.json", optional: true)
                .AddEnvironmentVariables()
                .AddCommandLine(args);
        }

        public ConfigurationManager Configuration { get; } = new();

        public string AppHostDirectory { get; }

        public IResourceBuilder<T> AddResource<T>(T resource) where T : IResource
        {
            if (_resources.Any(other => other.Name == resource.Name))
            {
                throw new InvalidOperationException($"There are two resources named '{resource.Name}'.");
            }

            _resources.Add(resource);
            return new ResourceBuilder<T>(resource, this);
        }

        public DistributedApplication Build() => new([.. _resources.OfType<ProcessResource>()], Configuration);
    }

    private sealed record ResourceBuilder<T>(T Resource, IDistributedApplicationBuilder ApplicationBuilder) : IResourceBuilder<T>
        where T : IResource;
}
