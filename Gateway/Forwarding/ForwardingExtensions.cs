using System.Net;
using LlmPipeline.ServiceDefaults;
using Yarp.ReverseProxy.Configuration;
using Yarp.ReverseProxy.Forwarder;

namespace LlmPipeline.Gateway.Forwarding;

/// <summary>Forwards the gRPC services of the other parts to their owners, message by message and without code per call.</summary>
internal static class ForwardingExtensions
{
    public static void AddForwarding(this IServiceCollection services, IConfiguration configuration)
    {
        services.AddSingleton<BackendConnections>();
        services.AddSingleton<IForwarderHttpClientFactory, BackendHttpClientFactory>();
        services.AddReverseProxy().LoadFromMemory(Routes(), Clusters(configuration));
    }

    public static void MapForwarding(this IEndpointRouteBuilder endpoints) =>
        endpoints.MapReverseProxy(proxy => proxy.Use(AnswerFailuresAsGrpc));

    private static RouteConfig[] Routes() =>
    [
        .. from backend in Backend.All
           from service in backend.Services
           select new RouteConfig
           {
               RouteId = service.FullName,
               ClusterId = backend.Name,
               Match = new RouteMatch { Path = $"/{service.FullName}/{{method}}", Methods = [HttpMethods.Post] },
           },
    ];

    private static ClusterConfig[] Clusters(IConfiguration configuration) =>
    [
        .. Backend.All.Select(backend => new ClusterConfig
        {
            ClusterId = backend.Name,
            HttpRequest = new ForwarderRequestConfig
            {
                Version = HttpVersion.Version20,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
                ActivityTimeout = Timeout.InfiniteTimeSpan,
            },
            Destinations = configuration[backend.EndpointKey] is { Length: > 0 } address
                ? new Dictionary<string, DestinationConfig> { [backend.Name] = new() { Address = address } }
                : null,
        }),
    ];

    /// <summary>A backend that does not answer is UNAVAILABLE, as a gRPC answer of trailers only: an HTTP error page says nothing to a gRPC client.</summary>
    private static async Task AnswerFailuresAsGrpc(HttpContext context, RequestDelegate next)
    {
        await next(context);
        var failed = context.Features.Get<IForwarderErrorFeature>() is not null || context.Response.StatusCode == StatusCodes.Status503ServiceUnavailable;
        if (!failed || context.Response.HasStarted || context.RequestAborted.IsCancellationRequested)
        {
            return;
        }

        var backend = context.GetReverseProxyFeature().Cluster.Config;
        var message = backend.Destinations is { Count: > 0 } destinations
            ? $"The {backend.ClusterId} at {destinations.Values.First().Address} does not answer. Check that it runs, and try again."
            : $"The Gateway does not know where the {backend.ClusterId} is: set {backend.ClusterId}:Endpoint.";
        var error = RpcErrors.Create(Grpc.Core.StatusCode.Unavailable, ErrorReasons.Unavailable, message);
        var details = error.Trailers.First(t => t.Key == "grpc-status-details-bin").ValueBytes;

        var response = context.Response;
        response.Clear();
        response.StatusCode = StatusCodes.Status200OK;
        response.ContentType = "application/grpc";
        response.Headers["grpc-status"] = ((int)error.StatusCode).ToString(System.Globalization.CultureInfo.InvariantCulture);
        response.Headers["grpc-message"] = Uri.EscapeDataString(message);
        response.Headers["grpc-status-details-bin"] = Convert.ToBase64String(details).TrimEnd('=');
    }

    private sealed class BackendHttpClientFactory(BackendConnections connections, ILogger<ForwarderHttpClientFactory> logger) : ForwarderHttpClientFactory(logger)
    {
        protected override void ConfigureHandler(ForwarderHttpClientContext context, SocketsHttpHandler handler)
        {
            base.ConfigureHandler(context, handler);
            connections.Configure(handler);
        }
    }
}
