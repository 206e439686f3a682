namespace LlmPipeline.Cli;

/// <summary>What the program's exit code says.</summary>
internal static class ExitCodes
{
    public const int Succeeded = 0;

    /// <summary>A run, dataset or evaluation failed, or the server did.</summary>
    public const int Failed = 1;

    /// <summary>The command line, a run file or a name is wrong.</summary>
    public const int BadInput = 2;

    /// <summary>No server answered.</summary>
    public const int Unreachable = 3;

    /// <summary>Ctrl-C, or the run was cancelled.</summary>
    public const int Cancelled = 130;
}
