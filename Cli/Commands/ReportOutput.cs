namespace LlmPipeline.Cli.Commands;

/// <summary>Where reports go.</summary>
internal static class ReportOutput
{
    /// <summary>Writes a report to a file, or shows it.</summary>
    /// <param name="session">Shows it; with --json as JSON.</param>
    /// <param name="file">Path relative to the current directory; JSON where it ends in .json. Null shows it.</param>
    /// <param name="markdown">The report.</param>
    /// <param name="json">The same.</param>
    /// <exception cref="RunFiles.RunFileException">The file cannot be written.</exception>
    public static void Write(Session session, string? file, string markdown, string json)
    {
        if (file is null)
        {
            session.Environment.Out.Write(session.Json ? json : TerminalText.Safe(markdown));
            return;
        }

        try
        {
            File.WriteAllText(Path.Combine(session.Environment.Directory, file), file.EndsWith(".json", StringComparison.OrdinalIgnoreCase) ? json : markdown);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new RunFiles.RunFileException($"--output {file}: cannot be written: {exception.Message}");
        }

        if (!session.Json)
        {
            session.WriteLine($"The report is in {file}.");
        }
    }
}
