using LlmPipeline.ServiceDefaults;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>Sets a server up for gradient streams.</summary>
internal static class GradientServer
{
    /// <summary>Bytes that wait for the socket before who writes them waits as well: some chunks.</summary>
    private const int WriteBufferBytes = 1024 * 1024;

    /// <summary>Adds what serves the streams of the <see cref="RingRegistry"/>; <see cref="PeerGradientService"/> has to be mapped as well.</summary>
    public static IServiceCollection AddGradientStreams(this IServiceCollection services, ExchangeOptions network)
    {
        services.AddSingleton<IConnectionFilter, PullConnections>();
        services.Configure<SocketTransportOptions>(sockets => sockets.MaxWriteBufferSize = WriteBufferBytes);
        return services.Configure<KestrelServerOptions>(kestrel =>
        {
            // Streams stay open for hours: a silent peer is noticed by its missing answer to a ping.
            kestrel.Limits.Http2.KeepAlivePingDelay = PeerChannels.PingDelay;
            kestrel.Limits.Http2.KeepAlivePingTimeout = PeerChannels.PingTimeout;
            kestrel.Limits.MinResponseDataRate = null;

            // What Kestrel itself serves, copies of the state and gradients for other clients: a message at one go.
            kestrel.Limits.Http2.MaxFrameSize = PullHello.MaxFrameBytes;
            kestrel.Limits.MaxResponseBufferSize = 2 * PullHello.MaxFrameBytes;
            kestrel.Limits.Http2.InitialStreamWindowSize = network.WindowBytes;
            kestrel.Limits.Http2.InitialConnectionWindowSize = network.WindowBytes;
        });
    }
}
