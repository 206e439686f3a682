using System.Net;
using System.Net.Sockets;

namespace LlmPipeline.Fakes;

/// <summary>Ports for servers on loopback that are started later, or again.</summary>
public static class FreePort
{
    // Below the ports that the system gives to outgoing connections, one of which could take it before the server is started.
    private const int First = 10_000;
    private const int Count = 22_000;

    private static int s_given = Random.Shared.Next(Count);

    /// <summary>A port that nobody listens on just now, and that nobody else in this process is given: a server that is stopped finds it again.</summary>
    public static int Next()
    {
        while (true)
        {
            using var listener = new TcpListener(IPAddress.Loopback, First + (Interlocked.Increment(ref s_given) % Count));
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
    public static int[] Several(int count) => [.. Enumerable.Range(0, count).Select(_ => Next())];
}
