using System.Text;
using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Reports;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>What reading a unit gave.</summary>
/// <param name="Documents">Documents after cleaning.</param>
/// <param name="Bytes">Their UTF-8 bytes.</param>
/// <param name="SourceBytes">Bytes of source files.</param>
/// <param name="Cleaning">What cleaning did.</param>
/// <param name="Languages">What they are written in.</param>
/// <param name="Skipped">Records that could not be read.</param>
internal sealed record ReadResult(long Documents, long Bytes, long SourceBytes, CleaningCounts Cleaning, LanguageCounts Languages, SkippedRecords Skipped);

/// <summary>Reads a unit: parsed, cleaned, signed, written to the job's folder. Parsing and cleaning run in parallel.</summary>
internal sealed class UnitReading(JobFolder folder, SourceOptions sources, BuildProgress progress)
{
    private readonly DatasetRecipe _recipe = folder.Job.Recipe;
    private readonly PieceReader _reader = new(sources, folder.Job.Recipe.Fields, folder.Job.Recipe.OnInvalid);
    private readonly PieceParser _parser = new(folder.Job.Recipe.Fields, folder.Job.Recipe.OnInvalid);
    private readonly DocumentCleaner _cleaner = new(folder.Job.Recipe.Cleaning);
    private readonly DocumentSigner _signer = new(folder.Job.Recipe.Cleaning.Duplicates);

    /// <summary>Reads one unit.</summary>
    /// <exception cref="TextSourceException">A file is broken.</exception>
    public async Task<ReadResult> ReadAsync(int index, int degree, CancellationToken cancellationToken)
    {
        var unit = await UnitPlanning.ReadUnitAsync(folder, index, cancellationToken);
        var pieces = _reader.ReadAsync(unit, cancellationToken);
        var cleaned = unit.Files[0].Format == SourceFormat.XmlDocumentation
            ? CleanMembers(pieces, degree, cancellationToken)
            : pieces.SelectOrdered(Clean, degree, cancellationToken);
        var total = new ReadResult(0, 0, 0, new CleaningCounts(), new LanguageCounts(), SkippedRecords.None);
        await using var writer = await DocumentFiles.Writer.CreateAsync(folder, index, cancellationToken);
        await foreach (var piece in cleaned.WithCancellation(cancellationToken))
        {
            total.Cleaning.Merge(piece.Cleaning);
            total.Languages.Merge(piece.Languages);
            long bytes = 0;
            foreach (var document in piece.Documents)
            {
                writer.Append(document);
                bytes += document.Utf8.Length;
            }

            total = total with
            {
                Documents = total.Documents + piece.Documents.Count,
                Bytes = total.Bytes + bytes,
                SourceBytes = total.SourceBytes + piece.DiskBytes,
                Skipped = total.Skipped.Add(piece.Skipped),
            };
            progress.AddRead(piece.Documents.Count, piece.DiskBytes);
        }

        await writer.CommitAsync(cancellationToken);
        return total;
    }

    private CleanPiece Clean(SourcePiece piece)
    {
        var parsed = _parser.Parse(piece);
        return Clean(parsed.Documents.Select(d => (d.Text, d.Label)), parsed.Skipped, piece.DiskBytes);
    }

    private CleanPiece Clean(IEnumerable<(string Text, string? Label)> texts, SkippedRecords skipped, long diskBytes)
    {
        var counts = new CleaningCounts();
        var languages = new LanguageCounts();
        var documents = new List<CleanDocument>();
        foreach (var (text, label) in texts)
        {
            if (_cleaner.Clean(text, counts).Text is { } clean)
            {
                var utf8 = Encoding.UTF8.GetBytes(clean);
                languages.Add(LanguageDetector.Detect(utf8), utf8.Length);
                documents.Add(new CleanDocument(utf8, Utf8Text.CountCharacters(utf8), _signer.Sign(utf8), label));
            }
        }

        return new CleanPiece(documents, counts, languages, skipped, diskBytes);
    }

    // Members that an earlier document had are dropped; 16 bytes each, and all documentation is one unit.
    private IAsyncEnumerable<CleanPiece> CleanMembers(IAsyncEnumerable<SourcePiece> pieces, int degree, CancellationToken cancellationToken)
    {
        var seen = new HashSet<UInt128>();
        return pieces
            .SelectOrdered(piece => (Parsed: _parser.Parse(piece), piece.DiskBytes), degree, cancellationToken)
            .Select(piece => (Texts: piece.Parsed.Documents.Select(d => WithoutSeen(d, seen)).OfType<string>().ToList(), piece.Parsed.Skipped, piece.DiskBytes))
            .SelectOrdered(piece => Clean(piece.Texts.Select(t => (t, (string?)null)), piece.Skipped, piece.DiskBytes), degree, cancellationToken);
    }

    private static string? WithoutSeen(RawDocument document, HashSet<UInt128> seen)
    {
        if (document.Members is null)
        {
            return document.Text;
        }

        var members = document.Members.Where(m => m.IsHeading || seen.Add(m.Key)).ToList();
        return members.TrueForAll(m => m.IsHeading) ? null : string.Concat(members.Select(m => m.Text));
    }

    private sealed record CleanPiece(List<CleanDocument> Documents, CleaningCounts Cleaning, LanguageCounts Languages, SkippedRecords Skipped, long DiskBytes);
}
