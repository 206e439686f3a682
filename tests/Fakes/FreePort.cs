using System.Net;
using System.Net.Sockets;

namespace LlmPipeline.Fakes;

/// <summary>Ports for servers on loopback that are started later, or again.</summary>
public static class FreePort
{
    /// <summary>A port that nobody listens on just now.</summary>
    // Below the ports that the system gives to outgoing connections, one of which could take it before the server is started.
    public static int Next()
    {
        while (true)
        {
            using var listener = new TcpListener(IPAddress.Loopback, Random.Shared.Next(10_000, 32_000));
            try
            {
                listener.Start();
                return ((IPEndPoint)listener.LocalEndpoint).Port;
            }
            catch (SocketException)
            {
                // Somebody has it.
            }
        }
    }

    /// <summary>So many, all different.</summary>
    public static int[] Several(int count)
    {
        var ports = new HashSet<int>();
        while (ports.Count < count)
        {
            ports.Add(Next());
        }

        return [.. ports];
    }
}
