using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Net;

namespace LlmPipeline.Faults.Machine;

/// <summary>
/// A network of its own for one process, joined to this one by a cable (veth) that can be made slow (tbf), cut one way or both, or
/// lossy (iptables). Needs root, iproute2 and iptables.
/// </summary>
public sealed class NetworkNamespace : IDisposable
{
    private static int _count;

    private readonly string _name;
    private readonly string _here;
    private readonly string _there;

    private NetworkNamespace(string name, int number)
    {
        var subnet = (number + Environment.ProcessId) % 250;
        (_name, _here, _there) = (name, $"lp{Environment.ProcessId}h{number}", $"lp{Environment.ProcessId}n{number}");
        HostAddress = IPAddress.Parse($"10.213.{subnet}.1");
        Address = IPAddress.Parse($"10.213.{subnet}.2");
    }

    /// <summary>This side of the cable.</summary>
    public IPAddress HostAddress { get; }

    /// <summary>The side of the process.</summary>
    public IPAddress Address { get; }

    /// <summary>What stands before the command of a process that is to live there.</summary>
    public IReadOnlyList<string> Launcher => ["ip", "netns", "exec", _name];

    /// <summary>Makes one; null, with the reason, where that is not allowed.</summary>
    public static NetworkNamespace? TryCreate(out string reason)
    {
        var number = Interlocked.Increment(ref _count);
        var made = new NetworkNamespace(string.Create(CultureInfo.InvariantCulture, $"llmpipeline-{Environment.ProcessId}-{number}"), number);
        try
        {
            Run("ip", "netns", "add", made._name);
            Run("ip", "link", "add", made._here, "type", "veth", "peer", "name", made._there);
            Run("ip", "link", "set", made._there, "netns", made._name);
            Run("ip", "address", "add", $"{made.HostAddress}/30", "dev", made._here);
            Run("ip", "link", "set", made._here, "up");
            made.Inside("ip", "address", "add", $"{made.Address}/30", "dev", made._there);
            made.Inside("ip", "link", "set", made._there, "up");
            made.Inside("ip", "link", "set", "lo", "up");
            reason = "";
            return made;
        }
        catch (Exception exception) when (exception is InvalidOperationException or Win32Exception)
        {
            made.Dispose();
            reason = $"network namespaces cannot be made here ({exception.Message.Trim().TrimEnd('.')})";
            return null;
        }
    }

    /// <summary>Makes the cable slow, each way.</summary>
    public void LimitRate(int kilobitsPerSecond)
    {
        string[] shape = ["root", "tbf", "rate", $"{kilobitsPerSecond}kbit", "burst", "32kbit", "latency", "400ms"];
        Run("tc", ["qdisc", "replace", "dev", _here, .. shape]);
        Inside("tc", ["qdisc", "replace", "dev", _there, .. shape]);
    }

    /// <summary>Nothing reaches the process any more; what it sends still goes out.</summary>
    public void CutIncoming() => Inside("iptables", "-A", "INPUT", "-i", _there, "-j", "DROP");

    /// <summary>A share of the packets is lost, each way.</summary>
    public void Lose(double share)
    {
        string[] statistic = ["-m", "statistic", "--mode", "random", "--probability", share.ToString(CultureInfo.InvariantCulture), "-j", "DROP"];
        Inside("iptables", ["-A", "INPUT", "-i", _there, .. statistic]);
        Inside("iptables", ["-A", "OUTPUT", "-o", _there, .. statistic]);
    }

    /// <summary>Ends cuts and losses; the rate stays.</summary>
    public void Heal() => Inside("iptables", "-F");

    /// <summary>Removes it; the process in it has ended.</summary>
    public void Dispose()
    {
        foreach (string[] arguments in new[] { new[] { "link", "delete", _here }, ["netns", "delete", _name] })
        {
            try
            {
                Run("ip", arguments);
            }
            catch (Exception exception) when (exception is InvalidOperationException or Win32Exception)
            {
                // It was not made.
            }
        }
    }

    private void Inside(string command, params string[] arguments) => Run("ip", ["netns", "exec", _name, command, .. arguments]);

    private static void Run(string command, params string[] arguments)
    {
        var start = new ProcessStartInfo(command, arguments) { RedirectStandardError = true, RedirectStandardOutput = true };
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{command} {string.Join(' ', arguments)}: {error}");
        }
    }
}
