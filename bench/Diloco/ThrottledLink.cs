namespace LlmPipeline.Bench.Diloco;

/// <summary>Two network namespaces and a link between them whose rate a token bucket holds down in both directions. Needs root and iproute2.</summary>
internal sealed class ThrottledLink : IAsyncDisposable
{
    private const int Port = 5400;

    private ThrottledLink(string[] namespaces) => Namespaces = namespaces;

    /// <summary>Names of the namespaces.</summary>
    public IReadOnlyList<string> Namespaces { get; }

    /// <summary>What the members listen on.</summary>
    public IReadOnlyList<string> Addresses { get; } = [$"http://10.213.7.1:{Port}", $"http://10.213.7.2:{Port}"];

    /// <summary>Makes the link; null where this system does not let it.</summary>
    /// <param name="rate">As <c>tc</c> writes it, for example "8mbit".</param>
    public static async Task<ThrottledLink?> TryCreateAsync(string rate)
    {
        string[] names = [$"llm-{Environment.ProcessId}-a", $"llm-{Environment.ProcessId}-b"];
        var link = new ThrottledLink(names);
        try
        {
            foreach (var name in names)
            {
                await IpAsync("netns", "add", name);
            }

            await IpAsync("link", "add", "veth0", "netns", names[0], "type", "veth", "peer", "name", "veth0", "netns", names[1]);
            for (var i = 0; i < 2; i++)
            {
                await IpAsync("-n", names[i], "addr", "add", $"10.213.7.{i + 1}/24", "dev", "veth0");
                await IpAsync("-n", names[i], "link", "set", "veth0", "up");
                await IpAsync("-n", names[i], "link", "set", "lo", "up");
                await Machine.OutputOfAsync("ip", ["netns", "exec", names[i], "tc", "qdisc", "add", "dev", "veth0", "root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms"]);
            }

            return link;
        }
        catch (Exception exception) when (exception is InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            Console.WriteLine($"No link of {rate} can be made here (needs root and iproute2): {exception.Message}");
            await link.DisposeAsync();
            return null;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        foreach (var name in Namespaces)
        {
            try
            {
                await IpAsync("netns", "delete", name);
            }
            catch (Exception exception) when (exception is InvalidOperationException or System.ComponentModel.Win32Exception)
            {
                // It was not made.
            }
        }
    }

    private static Task<string> IpAsync(params string[] arguments) => Machine.OutputOfAsync("ip", arguments);
}
