namespace LlmPipeline.AppHost.Launcher;

/// <summary>The launcher's output: lines, those of services behind the service's name.</summary>
internal sealed class Terminal(int nameWidth)
{
    private static readonly string[] Colours = ["36", "33", "35", "32", "34", "96", "93", "95"];

    private readonly bool _coloured = !Console.IsOutputRedirected && Environment.GetEnvironmentVariable("NO_COLOR") is null;
    private readonly Lock _lock = new();
    private readonly List<string> _names = [];

    public bool IsColoured => _coloured;

    /// <summary>Drops the lines of services: while all of them stop, each warns of the others.</summary>
    public bool HidesServices { get; set; }

    /// <summary>A line of the launcher itself.</summary>
    public void Write(string line)
    {
        lock (_lock)
        {
            Console.WriteLine(line);
        }
    }

    /// <summary>A line of the launcher about something that went wrong.</summary>
    public void WriteError(string line)
    {
        lock (_lock)
        {
            Console.Error.WriteLine(line);
        }
    }

    /// <summary>A line that a service wrote.</summary>
    public void Write(string name, string line)
    {
        if (HidesServices)
        {
            return;
        }

        lock (_lock)
        {
            if (!_names.Contains(name))
            {
                _names.Add(name);
            }

            var prefix = $"{name.PadRight(nameWidth)} |";
            Console.WriteLine(_coloured
                ? $"\e[{Colours[_names.IndexOf(name) % Colours.Length]}m{prefix}\e[0m {line}"
                : $"{prefix} {line}");
        }
    }
}
