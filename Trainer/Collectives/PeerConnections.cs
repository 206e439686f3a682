using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>Opens connections to peers for gradient streams.</summary>
/// <param name="window">Bytes that a peer may send ahead, see <see cref="ExchangeOptions.WindowBytes"/>.</param>
/// <param name="tls">How a server's identity is proved and one's own shown, for a host; null without TLS.</param>
internal sealed class PeerConnections(int window, Func<string, SslClientAuthenticationOptions>? tls)
{
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(5);

    /// <summary>Connections without TLS, with the usual window.</summary>
    public static PeerConnections Plaintext { get; } = new(new ExchangeOptions().WindowBytes, null);

    /// <summary>Bytes that a peer may send ahead.</summary>
    public int Window => window;

    /// <summary>Connects to a URL of scheme http or https.</summary>
    /// <exception cref="SocketException">Nobody listens there.</exception>
    /// <exception cref="IOException">The connection broke.</exception>
    /// <exception cref="AuthenticationException">The peer is not who it should be, or refuses this worker's certificate.</exception>
    public async Task<Stream> OpenAsync(Uri address, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(ConnectTimeout);
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        Stream? stream = null;
        try
        {
            await socket.ConnectAsync(address.IdnHost, address.Port, limit.Token);
            stream = new NetworkStream(socket, ownsSocket: true);
            if (address.Scheme == Uri.UriSchemeHttps)
            {
                var options = tls?.Invoke(address.IdnHost)
                    ?? throw new AuthenticationException($"{address} wants TLS, and Tls:Certificate, Tls:Key and Tls:Authority are not set.");
                options.ApplicationProtocols = [SslApplicationProtocol.Http2];
                var secured = new SslStream(stream);
                stream = secured;
                await secured.AuthenticateAsClientAsync(options, limit.Token);
            }

            return stream;
        }
        catch (OperationCanceledException exception) when (!cancellationToken.IsCancellationRequested)
        {
            await CloseAsync();
            throw new IOException($"{address} did not answer within {ConnectTimeout.TotalSeconds:F0} s", exception);
        }
        catch
        {
            await CloseAsync();
            throw;
        }

        async Task CloseAsync()
        {
            socket.Dispose();
            if (stream is not null)
            {
                await stream.DisposeAsync();
            }
        }
    }
}
