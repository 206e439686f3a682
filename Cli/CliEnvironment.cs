using Spectre.Console;

namespace LlmPipeline.Cli;

/// <summary>What the program sees of the process it runs in.</summary>
internal sealed record CliEnvironment
{
    /// <summary>Results.</summary>
    public required TextWriter Out { get; init; }

    /// <summary>Errors, and hints beside results.</summary>
    public required TextWriter Error { get; init; }

    /// <summary>Whether results go to a terminal, which shows live progress.</summary>
    public required bool IsTerminal { get; init; }

    /// <summary>Standard input.</summary>
    public required TextReader In { get; init; }

    /// <summary>Relative paths start here.</summary>
    public required string Directory { get; init; }

    /// <summary>Environment variables.</summary>
    public required Func<string, string?> Variable { get; init; }

    /// <summary>Least time between two plain progress lines.</summary>
    public TimeSpan ProgressInterval { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>How long to look for a server that does not answer before giving up.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>Tables and live progress on <see cref="Out"/>.</summary>
    public IAnsiConsole Console => field ??= AnsiConsole.Create(new AnsiConsoleSettings
    {
        Out = new AnsiConsoleOutput(Out),
        Ansi = IsTerminal ? AnsiSupport.Detect : AnsiSupport.No,
        Interactive = IsTerminal ? InteractionSupport.Detect : InteractionSupport.No,
    });

    /// <summary>The real one.</summary>
    public static CliEnvironment OfProcess() => new()
    {
        Out = System.Console.Out,
        Error = System.Console.Error,
        In = System.Console.In,
        IsTerminal = !System.Console.IsOutputRedirected,
        Directory = Environment.CurrentDirectory,
        Variable = Environment.GetEnvironmentVariable,
    };
}
