using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Tests.Sources;

/// <summary>Reads sources as the builder does.</summary>
internal static class SourceReading
{
    public static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    /// <summary>All documents of sources, and what was left out.</summary>
    public static async Task<(List<string> Documents, SkippedRecords Skipped)> ReadAsync(
        string[] sources, string field = "text", InvalidRecords onInvalid = InvalidRecords.Fail, long unitBytes = 16 << 20, SourceOptions? options = null)
    {
        options ??= new SourceOptions();
        return await ReadAsync(await SourceFiles.FindAsync(sources, options).WaitAsync(Patience), field, onInvalid, unitBytes, options);
    }

    /// <summary>All documents of files, and what was left out.</summary>
    public static async Task<(List<string> Documents, SkippedRecords Skipped)> ReadAsync(
        IReadOnlyList<SourceFile> files, string field = "text", InvalidRecords onInvalid = InvalidRecords.Fail, long unitBytes = 16 << 20, SourceOptions? options = null)
    {
        using var limit = new CancellationTokenSource(Patience);
        var documents = new List<string>();
        var skipped = SkippedRecords.None;
        var reader = new PieceReader(options ?? new SourceOptions(), field, onInvalid);
        var parser = new PieceParser(field, onInvalid);
        foreach (var unit in SourceUnits.Plan(files, unitBytes).Select(u => SourceUnit.FromJson(u.ToJson())))
        {
            await foreach (var piece in reader.ReadAsync(unit, limit.Token))
            {
                var parsed = parser.Parse(piece);
                documents.AddRange(parsed.Documents.Select(d => d.Members is null ? d.Text : string.Concat(d.Members.Select(m => m.Text))));
                skipped = skipped.Add(parsed.Skipped);
            }
        }

        return (documents, skipped);
    }
}
