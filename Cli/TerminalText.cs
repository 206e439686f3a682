namespace LlmPipeline.Cli;

/// <summary>Text from models and servers, shown without letting it steer the terminal.</summary>
internal static class TerminalText
{
    /// <summary>Replaces control characters other than line feed and tab.</summary>
    public static string Safe(string text) => text.Any(IsUnsafe) ? string.Concat(text.Select(c => IsUnsafe(c) ? '\ufffd' : c)) : text;

    private static bool IsUnsafe(char c) => char.IsControl(c) && c is not ('\n' or '\t');
}
