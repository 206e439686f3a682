using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using Grpc.Net.Client;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>Opens connections to peers and to the coordinator, over TLS where it is configured.</summary>
/// <param name="network">What the network is like.</param>
/// <param name="tls">This service's certificates; null without.</param>
internal sealed class PeerConnections(ExchangeOptions network, TlsCertificates? tls)
{
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(5);

    /// <summary>Connections without TLS, on the usual network.</summary>
    public static PeerConnections Plaintext { get; } = new(new ExchangeOptions(), null);

    /// <summary>Bytes that a peer may send ahead.</summary>
    public int Window => network.WindowBytes;

    /// <summary>A channel for calls with protobuf messages, see <see cref="PeerChannels.Create"/>.</summary>
    public GrpcChannel Channel(string address, TimeSpan? lifetime = null) => PeerChannels.Create(address, lifetime, network, tls?.Client());

    /// <summary>
    /// Connects to a URL of scheme http or https. Nothing is done asynchronously, which would make the socket one that is never blocked
    /// in the system's calls, and reading from it a matter of several threads.
    /// </summary>
    /// <exception cref="SocketException">Nobody listens there.</exception>
    /// <exception cref="IOException">The connection broke.</exception>
    /// <exception cref="AuthenticationException">The peer is not who it should be, or refuses this worker's certificate.</exception>
    public async Task<Stream> OpenAsync(Uri address, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(ConnectTimeout);
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            using (limit.Token.Register(socket.Dispose))
            {
                return await Task.Run(() => Open(socket, address), CancellationToken.None);
            }
        }
        catch (Exception) when (limit.IsCancellationRequested)
        {
            socket.Dispose();
            cancellationToken.ThrowIfCancellationRequested();
            throw new IOException($"{address} did not answer within {ConnectTimeout.TotalSeconds:F0} s");
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private Stream Open(Socket socket, Uri address)
    {
        socket.Connect(address.IdnHost, address.Port);
        var stream = new NetworkStream(socket, ownsSocket: true);
        if (address.Scheme != Uri.UriSchemeHttps)
        {
            return stream;
        }

        var options = tls?.Client(address.IdnHost) ?? new SslClientAuthenticationOptions { TargetHost = address.IdnHost };
        options.ApplicationProtocols = [SslApplicationProtocol.Http2];
        var secured = new SslStream(stream);
        try
        {
            secured.AuthenticateAsClient(options);
            return secured;
        }
        catch
        {
            secured.Dispose();
            throw;
        }
    }
}
