using System.Diagnostics;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using OpenTelemetry.Trace;

namespace LlmPipeline.ServiceDefaults.Tests;

/// <summary>A service with the defaults on free loopback ports, in this process; its spans are kept.</summary>
internal sealed class TestService : IAsyncDisposable
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private readonly WebApplication _app;

    private TestService(WebApplication app, List<Activity> spans)
    {
        _app = app;
        Spans = spans;
        var addresses = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.ToArray();
        Http = new HttpClient { BaseAddress = new Uri(addresses[0]) };
        Grpc = GrpcChannel.ForAddress(addresses[^1]);
    }

    /// <summary>A client of the HTTP/1.1 endpoint.</summary>
    public HttpClient Http { get; }

    /// <summary>A channel to the gRPC endpoint.</summary>
    public GrpcChannel Grpc { get; }

    /// <summary>The spans that ended; complete once this is disposed.</summary>
    public List<Activity> Spans { get; }

    public static async Task<TestService> StartAsync(
        Action<WebApplicationBuilder>? configure = null, Action<WebApplication>? map = null, string? collector = null)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Configuration.AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["urls"] = "http://127.0.0.1:0",
            ["GRPC_PORT"] = "0",
            ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector,
        });
        builder.Logging.ClearProviders();
        builder.AddServiceDefaults();
        var spans = new List<Activity>();
        if (collector is null)
        {
            builder.Services.AddOpenTelemetry().WithTracing(tracing => tracing.AddInMemoryExporter(spans));
        }

        configure?.Invoke(builder);
        var app = builder.Build();
        app.MapDefaultEndpoints();
        map?.Invoke(app);
        await app.StartAsync().WaitAsync(Patience);
        return new TestService(app, spans);
    }

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        Grpc.Dispose();
        await _app.StopAsync().WaitAsync(Patience);
        await _app.DisposeAsync();
    }
}
