using Grpc.Net.Client;
using LlmPipeline.Gateway.Forwarding;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using Microsoft.Extensions.FileProviders;

namespace LlmPipeline.Gateway.Page;

/// <summary>The web page: three static files, and the runs as JSON.</summary>
internal static class PageExtensions
{
    // The page loads nothing from elsewhere and runs no inline script, so text of a model can never become code.
    private const string ContentSecurityPolicy =
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    public static void AddPage(this IServiceCollection services) => services.AddSingleton(provider =>
    {
        var address = provider.GetRequiredService<IConfiguration>()[Backend.Trainer.EndpointKey];
        if (string.IsNullOrEmpty(address))
        {
            return new RunsEndpoint(null);
        }

        var handler = new SocketsHttpHandler();
        provider.GetRequiredService<BackendConnections>().Configure(handler);
        var channel = GrpcChannel.ForAddress(address, new GrpcChannelOptions
        {
            HttpHandler = handler,
            DisposeHttpClient = true,
            MaxReceiveMessageSize = GrpcDefaults.MaxMessageBytes,
        });
        provider.GetRequiredService<IHostApplicationLifetime>().ApplicationStopped.Register(channel.Dispose);
        return new RunsEndpoint(new RunService.RunServiceClient(channel));
    });

    public static void UsePage(this WebApplication app)
    {
        var files = new PhysicalFileProvider(Path.Combine(AppContext.BaseDirectory, "wwwroot"));
        app.UseDefaultFiles(new DefaultFilesOptions { FileProvider = files });
        app.UseStaticFiles(new StaticFileOptions
        {
            FileProvider = files,
            OnPrepareResponse = file => file.Context.Response.Headers.CacheControl = "no-cache",
        });
    }

    public static void MapPage(this IEndpointRouteBuilder endpoints)
    {
        endpoints.MapGet("/api/runs", (RunsEndpoint runs, HttpContext context) => runs.ListAsync(context));
        endpoints.MapGet("/api/runs/{id}", (RunsEndpoint runs, HttpContext context, string id) => runs.GetAsync(context, id));
        endpoints.MapGet("/api/runs/{id}/metrics", (RunsEndpoint runs, HttpContext context, string id) => runs.MetricsAsync(context, id));
    }

    public static void UseSecurityHeaders(this WebApplication app) => app.Use((context, next) =>
    {
        var headers = context.Response.Headers;
        headers.XContentTypeOptions = "nosniff";
        headers.XFrameOptions = "DENY";
        headers.ContentSecurityPolicy = ContentSecurityPolicy;
        headers["Referrer-Policy"] = "no-referrer";
        headers["Cross-Origin-Opener-Policy"] = "same-origin";
        headers["Cross-Origin-Resource-Policy"] = "same-origin";
        return next(context);
    });
}
