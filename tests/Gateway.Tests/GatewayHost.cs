using Grpc.Net.Client;
using LlmPipeline.Gateway.Catalogue;
using LlmPipeline.Gateway.Engine;
using LlmPipeline.ServiceDefaults;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace LlmPipeline.Gateway.Tests;

/// <summary>A whole Gateway on free ports of the loopback interface, composed as in Program.cs.</summary>
internal sealed class GatewayHost : IAsyncDisposable
{
    /// <summary>Every await of these tests ends within this.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly WebApplication _app;

    private GatewayHost(WebApplication app)
    {
        _app = app;
        var addresses = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.ToArray();
        (Url, GrpcUrl) = (addresses[0], addresses[1]);
        Http = new HttpClient { BaseAddress = new Uri(Url), Timeout = Patience };
        Channel = GrpcChannel.ForAddress(GrpcUrl);
    }

    public string Url { get; }

    public string GrpcUrl { get; }

    public HttpClient Http { get; }

    public GrpcChannel Channel { get; }

    public IServiceProvider Services => _app.Services;

    public ModelCatalogue Catalogue => Services.GetRequiredService<ModelCatalogue>();

    public GenerationEngine Engine => Services.GetRequiredService<GenerationEngine>();

    /// <summary>Starts a Gateway over a storage folder, with the models in it loaded. It looks for new ones only when told to, unless the settings say otherwise.</summary>
    public static async Task<GatewayHost> StartAsync(string storage, params (string Key, string? Value)[] settings)
    {
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
        builder.Logging.ClearProviders();
        builder.Configuration.AddInMemoryCollection(
        [
            new("urls", "http://127.0.0.1:0"),
            new("GRPC_PORT", "0"),
            new("ConnectionStrings:storage", $"folder={storage}"),
            new("Gateway:PollSeconds", "3600"),
        ]);
        builder.Configuration.AddInMemoryCollection(settings.Select(s => KeyValuePair.Create(s.Key, s.Value)));
        builder.AddServiceDefaults();
        builder.AddGateway();
        var app = builder.Build();
        app.MapDefaultEndpoints();
        app.MapGateway();
        await app.StartAsync();
        var host = new GatewayHost(app);
        await host.RefreshAsync();
        return host;
    }

    public Task RefreshAsync() => Catalogue.RefreshAsync(CancellationToken.None).WaitAsync(Patience);

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        Channel.Dispose();
        await _app.StopAsync();
        await _app.DisposeAsync();
    }
}
