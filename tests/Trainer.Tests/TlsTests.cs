using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using LlmPipeline.Fakes;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer.Collectives;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace LlmPipeline.Trainer.Tests;

/// <summary>Rings over mutual TLS: rank 0 is a server of its own, rank 1 whoever calls.</summary>
public sealed class TlsTests : IAsyncLifetime
{
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(30);
    private readonly TestAuthority _authority = new();
    private readonly List<WebApplication> _apps = [];
    private readonly RecordingLogger _log = new();

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        foreach (var app in _apps)
        {
            await app.DisposeAsync();
        }

        _authority.Dispose();
    }

    [Fact]
    public async Task APeerWithoutTlsIsRefused()
    {
        var (_, port) = await StartAsync();
        await using var ring = new GrpcRingTransport(1, 1, [$"http://localhost:{port}", "http://localhost:1"], PeerConnections.Plaintext);
        var broken = await Assert.ThrowsAsync<RingBrokenException>(() => ReceiveAsync(ring));
        Assert.Equal(0, broken.SuspectRank);
    }

    [Fact]
    public async Task APeerWithoutACertificateIsRefusedAndTheLogSaysSo()
    {
        var (_, port) = await StartAsync();
        var settings = _authority.Settings("unused");
        await using var ring = new GrpcRingTransport(1, 1, [$"https://localhost:{port}", "https://localhost:1"], Connections([settings[2]]));
        await Assert.ThrowsAsync<RingBrokenException>(() => ReceiveAsync(ring));
        Assert.Contains(_log.Messages, m => m.Contains("is refused: it shows no certificate", StringComparison.Ordinal));
    }

    [Fact]
    public async Task APeerOfAnotherAuthorityIsRefusedOnBothSides()
    {
        var (_, port) = await StartAsync();
        using var other = new TestAuthority();

        // The caller finds the server wrong.
        await using var suspicious = new GrpcRingTransport(1, 1, [$"https://localhost:{port}", "https://localhost:1"], Connections(other.Settings("stranger")));
        var broken = await Assert.ThrowsAsync<RingBrokenException>(() => ReceiveAsync(suspicious));
        Assert.Equal(0, broken.SuspectRank);

        // The server finds the caller wrong.
        (string, string)[] mixed = [.. other.Settings("stranger").Take(2), _authority.Settings("unused")[2]];
        await using var stranger = new GrpcRingTransport(1, 1, [$"https://localhost:{port}", "https://localhost:1"], Connections(mixed));
        await Assert.ThrowsAsync<RingBrokenException>(() => ReceiveAsync(stranger));
        Assert.Contains(_log.Messages, m => m.Contains("does not come from an authority of Tls:Authority", StringComparison.Ordinal));
    }

    [Fact]
    public async Task ACertificateThatIsReplacedOnDiskHoldsForNewConnectionsAndTheOpenRingGoesOn()
    {
        var settings = _authority.Settings("worker");
        var registries = new[] { new RingRegistry(), new RingRegistry() };
        var ports = new int[2];
        for (var i = 0; i < 2; i++)
        {
            (_, ports[i]) = await StartAsync(registries[i], settings);
        }

        var addresses = ports.Select(p => $"https://localhost:{p}").ToArray();
        var rings = Enumerable.Range(0, 2).Select(rank => new GrpcRingTransport(1, rank, addresses, Connections(settings))).ToArray();
        for (var i = 0; i < 2; i++)
        {
            registries[i].Enter(1, rings[i]);
        }

        await StepAsync(rings, 1);
        var first = await ThumbprintAsync(ports[0], settings);
        var renewed = _authority.Issue("worker");
        Assert.NotEqual(renewed, first);
        await StepAsync(rings, 2);
        Assert.Equal(renewed, await ThumbprintAsync(ports[0], settings));
        await StepAsync(rings, 3);
        foreach (var ring in rings)
        {
            await ring.DisposeAsync();
        }
    }

    [Fact]
    public void HalfOfACertificateIsAnErrorThatNamesTheKeys()
    {
        var error = Assert.Throws<InvalidOperationException>(() => Certificates([("Tls:Certificate", "a.pem")]));
        Assert.Contains("Tls:Key", error.Message);
        error = Assert.Throws<InvalidOperationException>(() => Certificates([("Tls:Certificate", "no-such.pem"), ("Tls:Key", "no-such.key")]));
        Assert.Contains("no-such.pem", error.Message);
    }

    private async Task<(WebApplication App, int Port)> StartAsync(RingRegistry? registry = null, (string, string)[]? settings = null)
    {
        var port = FreePort.Next();
        registry ??= new RingRegistry();
        var app = await TestHost.StartAsync(
            port,
            b =>
            {
                b.Services.AddSingleton(registry).AddGradientStreams(new ExchangeOptions());
                b.Services.AddSingleton<ILogger<TlsCertificates>>(_log);
            },
            a => a.MapGrpcService<PeerGradientService>(),
            settings ?? _authority.Settings("server"));
        _apps.Add(app);
        return (app, port);
    }

    private static PeerConnections Connections((string, string)[] settings) => new(new ExchangeOptions(), Certificates(settings));

    private static TlsCertificates Certificates((string Key, string Value)[] settings) => new(
        new ConfigurationBuilder().AddInMemoryCollection(settings.Select(s => KeyValuePair.Create(s.Key, (string?)s.Value))).Build(), NullLogger<TlsCertificates>.Instance);

    private static Task ReceiveAsync(GrpcRingTransport ring) =>
        new RingAllReduce(ring).RunAsync(1, Buckets.Entry, new ExchangeBuffer(0, 8)).WaitAsync(Timeout);

    private static Task StepAsync(GrpcRingTransport[] rings, long step) =>
        Task.WhenAll(rings.Select(r => new RingAllReduce(r).RunAsync(step, Buckets.Gradients, new ExchangeBuffer(1000, 5)))).WaitAsync(Timeout);

    private static async Task<string> ThumbprintAsync(int port, (string, string)[] settings)
    {
        using var client = new TcpClient();
        await client.ConnectAsync("localhost", port);
        await using var stream = new SslStream(client.GetStream());
        await stream.AuthenticateAsClientAsync(Certificates(settings).Client("localhost"));
        return ((X509Certificate2)stream.RemoteCertificate!).Thumbprint;
    }

    private sealed class RecordingLogger : ILogger<TlsCertificates>
    {
        public System.Collections.Concurrent.ConcurrentQueue<string> Messages { get; } = new();

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => Messages.Enqueue(formatter(state, exception));
    }
}
