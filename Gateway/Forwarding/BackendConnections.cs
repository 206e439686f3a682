using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Gateway.Forwarding;

/// <summary>How the Gateway connects to the services behind it: with this service's certificates where they speak TLS.</summary>
internal sealed class BackendConnections(TlsCertificates tls)
{
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan PingInterval = TimeSpan.FromSeconds(15);

    /// <summary>Sets up a handler before its first request.</summary>
    public void Configure(SocketsHttpHandler handler)
    {
        handler.SslOptions = tls.Client();
        handler.ConnectTimeout = ConnectTimeout;

        // Streams have no time limit, so a peer that died without a word is found by pings.
        handler.KeepAlivePingDelay = PingInterval;
        handler.KeepAlivePingTimeout = PingInterval;
        handler.KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests;
    }
}
