namespace LlmPipeline.Cli.Commands;

/// <summary>Lists as aligned columns.</summary>
internal static class Listing
{
    /// <summary>Writes a line for each row, under a line of titles; a sentence instead when there is none.</summary>
    public static void Write(Session session, string none, string[] titles, IEnumerable<string[]> rows)
    {
        List<string[]> all = [titles, .. rows];
        if (all.Count == 1)
        {
            session.WriteLine(none);
            return;
        }

        var widths = Enumerable.Range(0, titles.Length).Select(i => all.Max(r => r[i].Length)).ToArray();
        foreach (var row in all)
        {
            session.WriteLine(string.Join("  ", row.Select((cell, i) => cell.PadRight(widths[i]))).TrimEnd());
        }
    }
}
