using System.Net;
using System.Net.Sockets;

namespace LlmPipeline.AppHost.Launcher;

/// <summary>Gives every endpoint a port: the one it asks for, or a free one.</summary>
internal static class PortAllocator
{
    /// <exception cref="LauncherException">A port that an endpoint asks for is in use.</exception>
    public static void Allocate(IEnumerable<ProcessResource> resources)
    {
        // All are held until all are known, so that none is given away twice.
        var held = new List<TcpListener>();
        try
        {
            foreach (var resource in resources)
            {
                foreach (var endpoint in resource.Endpoints)
                {
                    endpoint.Port = Hold(resource.Name, endpoint, held);
                }
            }
        }
        finally
        {
            held.ForEach(listener => listener.Dispose());
        }
    }

    /// <summary>Whether nobody listens on a port of this machine.</summary>
    public static bool IsFree(int port)
    {
        try
        {
            using var listener = new TcpListener(IPAddress.Loopback, port);
            listener.Start();
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    /// <summary>A port that nobody listens on now.</summary>
    public static int FindFree()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private static int Hold(string resource, EndpointAnnotation endpoint, List<TcpListener> held)
    {
        var listener = new TcpListener(IPAddress.Loopback, endpoint.Port ?? 0);
        try
        {
            listener.Start();
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse)
        {
            listener.Dispose();
            throw new LauncherException(
                $"Port {endpoint.Port} is in use, and {resource} needs it ({endpoint.Name}). "
                + $"Is LlmPipeline running already? Stop what listens there (find it with 'ss -ltnp sport = :{endpoint.Port}'), or choose another port (see --help).");
        }

        held.Add(listener);
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
