namespace Aspire.Hosting.ApplicationModel
{
    /// <summary>Something the application consists of.</summary>
    internal interface IResource
    {
        string Name { get; }
    }

    internal interface IResourceWithEnvironment : IResource;

    internal interface IResourceWithArgs : IResource;

    internal interface IResourceWithEndpoints : IResource;

    internal interface IResourceWithWaitSupport : IResource;

    internal interface IResourceWithConnectionString : IResource;

    /// <summary>Adds to a resource while the application is described.</summary>
    internal interface IResourceBuilder<out T> where T : IResource
    {
        T Resource { get; }

        IDistributedApplicationBuilder ApplicationBuilder { get; }
    }

    /// <summary>A value from <c>ConnectionStrings:NAME</c> of the configuration.</summary>
    internal sealed class ConnectionStringResource(string name) : IResourceWithConnectionString
    {
        public string Name => name;
    }

    /// <summary>Whatever runs as a process.</summary>
    internal abstract class ProcessResource(string name)
        : IResourceWithEnvironment, IResourceWithArgs, IResourceWithEndpoints, IResourceWithWaitSupport
    {
        public string Name => name;

        /// <summary>The program and the arguments that stand before the resource's own.</summary>
        public required IReadOnlyList<string> Command { get; init; }

        public required string WorkingDirectory { get; init; }

        public List<string> Arguments { get; } = [];

        /// <summary>Environment variables; values are asked for when the process starts, when all ports are known.</summary>
        public Dictionary<string, Func<string>> Environment { get; } = [];

        public List<EndpointAnnotation> Endpoints { get; } = [];

        /// <summary>What must run, and be healthy if it can tell, before this starts.</summary>
        public List<ProcessResource> WaitsFor { get; } = [];

        /// <summary>Where health is asked for, if it can be.</summary>
        public (string Endpoint, string Path)? HealthCheck { get; set; }

        /// <summary>A program that ends by itself, and whose console is the launcher's.</summary>
        public bool IsTask => this is ProjectResource && Endpoints.Count == 0;
    }

    /// <summary>A .NET project of this repository, built with the AppHost.</summary>
    internal sealed class ProjectResource(string name) : ProcessResource(name);

    /// <summary>Any other program.</summary>
    internal sealed class ExecutableResource(string name) : ProcessResource(name);

    /// <summary>A port of a resource.</summary>
    internal sealed class EndpointAnnotation
    {
        public required string Name { get; init; }

        /// <summary>The wanted port, or after <c>PortAllocator</c> the one it got.</summary>
        public int? Port { get; set; }

        /// <summary>Environment variable that tells the process the port; without it the port is part of ASPNETCORE_URLS.</summary>
        public string? Variable { get; init; }

        /// <summary>Meaningful to Aspire's proxy and to publishing alone.</summary>
        public string Transport { get; set; } = "http";

        public bool IsExternal { get; set; }

        public string Url => $"http://localhost:{Port}";
    }

    /// <summary>An endpoint whose port need not be known yet.</summary>
    internal sealed class EndpointReference(EndpointAnnotation endpoint)
    {
        public string Url => endpoint.Url;
    }
}

namespace Aspire.Hosting
{
    /// <summary>A project that is a resource; implemented by the generated classes <c>Projects.NAME</c>.</summary>
    internal interface IProjectMetadata
    {
        string ProjectPath { get; }

        /// <summary>The built program.</summary>
        string AssemblyPath { get; }
    }
}
