using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace LlmPipeline.ServiceDefaults;

/// <summary>Kestrel's socket transport; a port in use ends the process with one line that names it, and exit code 1.</summary>
[SuppressMessage("Performance", "CA1812", Justification = "Made by dependency injection.")]
internal sealed class PortReportingListenerFactory(
    IOptions<SocketTransportOptions> options, ILoggerFactory loggers, IHostEnvironment environment)
    : IConnectionListenerFactory, IConnectionListenerFactorySelector
{
    private readonly SocketTransportFactory _sockets = new(options, loggers);

    public bool CanBind(EndPoint endpoint) => _sockets.CanBind(endpoint);

    public async ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default)
    {
        try
        {
            return await _sockets.BindAsync(endpoint, cancellationToken);
        }
        catch (Exception e) when (IsInUse(e) && endpoint is IPEndPoint { Port: var port })
        {
            await Console.Error.WriteLineAsync(
                $"{environment.ApplicationName} cannot start: port {port} is in use by another process. "
                + $"Stop that process (find it with 'ss -ltnp sport = :{port}') or choose other ports with ASPNETCORE_URLS and GRPC_PORT.");
            Environment.Exit(1);
            throw;
        }
    }

    private static bool IsInUse(Exception e) =>
        e is AddressInUseException or SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse };
}
