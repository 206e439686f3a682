using System.Net.Security;
using Grpc.Net.Client;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>gRPC channels between the parts of the trainer.</summary>
internal static class PeerChannels
{
    /// <summary>Silence after which a connection is asked for a sign of life.</summary>
    public static readonly TimeSpan PingDelay = TimeSpan.FromSeconds(1);

    /// <summary>A connection whose ping is not answered for as long is broken.</summary>
    public static readonly TimeSpan PingTimeout = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Opens a channel that notices a silent peer. It makes no client spans: heartbeats and gradient streams would flood the
    /// trace of a run.
    /// </summary>
    /// <param name="address">URL of the peer.</param>
    /// <param name="lifetime">Calls use a connection for as long; then the name of the address is looked up anew. Null for ever.</param>
    /// <param name="network">What the network is like; null for the usual.</param>
    /// <param name="tls">How identities are proved over https; null as the system does.</param>
    public static GrpcChannel Create(string address, TimeSpan? lifetime = null, ExchangeOptions? network = null, SslClientAuthenticationOptions? tls = null) => GrpcChannel.ForAddress(address, new GrpcChannelOptions
    {
        DisposeHttpClient = true,
        MaxReceiveMessageSize = GradientStream.MaxMessageBytes + ChunkHeader.Size,
        InitialReconnectBackoff = TimeSpan.FromMilliseconds(100),
        MaxReconnectBackoff = TimeSpan.FromSeconds(2),
        HttpHandler = new SocketsHttpHandler
        {
            ActivityHeadersPropagator = null,
            PooledConnectionLifetime = lifetime ?? Timeout.InfiniteTimeSpan,
            EnableMultipleHttp2Connections = true,
            InitialHttp2StreamWindowSize = Math.Min((network ?? new ExchangeOptions()).WindowBytes, 16 * 1024 * 1024),
            SslOptions = tls ?? new SslClientAuthenticationOptions(),
            KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
            KeepAlivePingDelay = PingDelay,
            KeepAlivePingTimeout = PingTimeout,
            ConnectTimeout = TimeSpan.FromSeconds(5),
            UseProxy = false,
        },
    });
}
