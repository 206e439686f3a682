using System.Text;
using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>Reads source files into a spool: parsed, cleaned, without duplicates. Parsing and cleaning run in parallel.</summary>
internal sealed class SourceReader(DatasetRecipe recipe, SourceOptions sourceOptions, int degree, BuildProgress progress)
{
    private const long UnitBytes = 16 << 20;

    private readonly PieceReader _reader = new(sourceOptions, recipe.TextField);
    private readonly PieceParser _parser = new(recipe.TextField);
    private readonly DocumentCleaner _cleaner = new(recipe.Cleaning);
    private readonly DocumentSigner _signer = new(recipe.Cleaning.Duplicates);
    private readonly SplitPlan _splits = new(recipe);

    // 16 bytes a document, and a member of XML documentation: the part of memory that grows with the dataset.
    private readonly HashSet<UInt128> _seenDocuments = [];
    private readonly HashSet<UInt128> _seenMembers = [];

    /// <summary>Fills the spool.</summary>
    /// <exception cref="TextSourceException">A file is broken, or there is no text at all.</exception>
    public async Task ReadAsync(IReadOnlyList<SourceFile> files, DocumentSpool spool, CancellationToken cancellationToken)
    {
        progress.Plan(files);
        var cleaned = SourceUnits.Plan(files, UnitBytes).ToAsyncEnumerable().SelectMany(unit => _reader.ReadAsync(unit, cancellationToken))
            .SelectOrdered(piece => (piece.DiskBytes, _parser.Parse(piece).Documents), degree, cancellationToken)
            .Select(parsed => (parsed.DiskBytes, Texts: parsed.Documents.Select(WithoutSeenMembers).OfType<string>().ToList()))
            .SelectOrdered(parsed => (parsed.DiskBytes, Documents: parsed.Texts.ConvertAll(Clean)), degree, cancellationToken);
        await foreach (var (diskBytes, documents) in cleaned.WithCancellation(cancellationToken))
        {
            progress.AddSourceBytes(diskBytes);
            if (documents.OfType<CleanDocument>().Any(document => !TryAdd(document, spool)))
            {
                break;
            }
        }

        spool.Flush();
        if (spool.DocumentCount == 0)
        {
            throw new TextSourceException(TextSourceProblem.Empty,
                $"The sources hold no text: {files.Count} files were read, the first is '{files[0].Path}'. Give files with text in them.");
        }
    }

    // False when the limit is reached.
    private bool TryAdd(CleanDocument document, DocumentSpool spool)
    {
        if (!_seenDocuments.Add(document.Hash))
        {
            progress.AddDuplicate();
            return true;
        }

        var room = recipe.MaxBytes == 0 ? long.MaxValue : recipe.MaxBytes - spool.ByteCount;
        var last = document.Utf8.Length >= room;
        if (document.Utf8.Length > room)
        {
            var length = Utf8Text.WholeCharacters(document.Utf8.AsSpan(0, (int)room));
            document = document with { Utf8 = document.Utf8[..length], CharacterCount = Utf8Text.CountCharacters(document.Utf8.AsSpan(0, length)) };
        }

        if (document.Utf8.Length > 0)
        {
            spool.Append(document, _splits.SplitOf(document));
            progress.AddDocument();
        }

        return !last;
    }

    private string? WithoutSeenMembers(RawDocument document)
    {
        if (document.Members is null)
        {
            return document.Text;
        }

        var members = document.Members.Where(m => m.IsHeading || _seenMembers.Add(m.Key)).ToList();
        return members.TrueForAll(m => m.IsHeading) ? null : string.Concat(members.Select(m => m.Text));
    }

    private CleanDocument? Clean(string text)
    {
        if (_cleaner.Clean(text, new CleaningCounts()).Text is not { } cleaned)
        {
            return null;
        }

        var utf8 = Encoding.UTF8.GetBytes(cleaned);
        var signature = _signer.Sign(utf8);
        return new CleanDocument(utf8, Utf8Text.CountCharacters(utf8), signature.Exact, signature.SplitPosition);
    }
}
