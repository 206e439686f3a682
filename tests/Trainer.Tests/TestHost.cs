using System.Net;
using LlmPipeline.ServiceDefaults;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace LlmPipeline.Trainer.Tests;

/// <summary>Web applications on loopback, HTTP/2 without TLS.</summary>
internal static class TestHost
{
    public static Task<WebApplication> StartAsync(int port, Action<WebApplicationBuilder> add, Action<WebApplication> map, params (string Key, string Value)[] settings) =>
        StartAsync(new IPEndPoint(IPAddress.Loopback, port), add, map, settings);

    public static async Task<WebApplication> StartAsync(IPEndPoint endpoint, Action<WebApplicationBuilder> add, Action<WebApplication> map, params (string Key, string Value)[] settings)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.Configuration.AddInMemoryCollection(settings.Select(s => KeyValuePair.Create(s.Key, (string?)s.Value)));
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration().ConfigureKestrel(kestrel => kestrel.Listen(endpoint, GrpcEndpoint.UseGrpc));
        builder.Services.AddSingleton<TlsCertificates>();
        builder.Services.AddRouting();
        builder.Services.AddGrpc();
        builder.Services.AddMetrics();
        builder.Services.AddLogging(logging => logging.AddSimpleConsole(o => { o.SingleLine = true; o.TimestampFormat = "HH:mm:ss.fff "; }).SetMinimumLevel(Environment.GetEnvironmentVariable("TEST_LOG") is null ? LogLevel.None : LogLevel.Information).AddFilter("Microsoft", LogLevel.Warning));
        builder.Services.Configure<Microsoft.Extensions.Hosting.HostOptions>(o => o.ShutdownTimeout = TimeSpan.FromSeconds(10));
        add(builder);
        var app = builder.Build();
        map(app);
        await app.StartAsync();
        return app;
    }
}
