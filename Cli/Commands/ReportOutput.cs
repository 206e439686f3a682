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

    /// <summary>Writes the files of a report into a folder, which is made.</summary>
    /// <param name="session">Says where they are.</param>
    /// <param name="folder">Path relative to the current directory.</param>
    /// <param name="files">Paths within the folder, and texts.</param>
    /// <exception cref="RunFiles.RunFileException">A file cannot be written.</exception>
    public static void WriteFolder(Session session, string folder, IEnumerable<(string Path, string Text)> files)
    {
        var root = Path.GetFullPath(Path.Combine(session.Environment.Directory, folder));
        try
        {
            foreach (var (path, text) in files)
            {
                var target = Path.GetFullPath(Path.Combine(root, path));
                if (!target.StartsWith(root + Path.DirectorySeparatorChar, StringComparison.Ordinal))
                {
                    throw new RunFiles.RunFileException($"The report has a file '{path}', which is outside of its folder.");
                }

                Directory.CreateDirectory(Path.GetDirectoryName(target)!);
                File.WriteAllText(target, text);
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new RunFiles.RunFileException($"--output {folder}: cannot be written: {exception.Message}");
        }

        if (!session.Json)
        {
            session.WriteLine($"The report is in {folder}.");
        }
    }
}
