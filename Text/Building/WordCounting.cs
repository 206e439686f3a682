using System.Globalization;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>That a unit was counted.</summary>
/// <param name="Bytes">Bytes of text that were counted.</param>
internal sealed record CountResult(long Bytes);

/// <summary>Counts what a tokenizer is made from; <c>count/{unit}</c> holds the counts of a unit (<see cref="WordCounts.Write"/>).</summary>
internal sealed class WordCounting(JobFolder folder, Selection selection)
{
    /// <summary>Sub-word tokenizers learn from at most this many bytes of text: more change them hardly, and cost time and memory.</summary>
    public const long MaxSampleBytes = 128 << 20;

    // No document stands for more than this of a sample.
    private const int MaxPieceBytes = 1 << 20;

    private readonly TokenizerOptions _tokenizer = folder.Job.Recipe.Tokenizer.Options;

    // What is a token of its own has to be found wherever it is.
    private bool IsSampled => _tokenizer.Kind is "bpe" or "wordpiece" or "classic-bpe";

    // Characters that are only in other splits are no news from them, and would be unknown.
    private bool CountsAllSplits => _tokenizer.Kind == "character";

    public static string FileOf(int unit) => string.Create(CultureInfo.InvariantCulture, $"count/{unit:D6}");

    /// <summary>Counts one unit.</summary>
    public async Task<CountResult> CountAsync(int unit, int degree, CancellationToken cancellationToken)
    {
        var splitter = TokenizerTrainer.SplitterOf(_tokenizer);
        var share = IsSampled ? Math.Min(1, (double)MaxSampleBytes / Math.Max(1, selection.PartBytes.Sum())) : 1;
        var total = new WordCounts();
        long bytes = 0;
        var counted = new SelectedDocuments(folder, selection).ReadAsync(unit, cancellationToken)
            .SelectOrdered(batch => Count(batch, splitter, share), degree, cancellationToken);
        await foreach (var (words, batchBytes) in counted.WithCancellation(cancellationToken))
        {
            total.Merge(words);
            bytes += batchBytes;
        }

        await using var writer = await folder.CreateAsync(FileOf(unit), cancellationToken);
        total.Write(writer.Stream);
        await writer.CommitAsync(cancellationToken);
        return new CountResult(bytes);
    }

    /// <summary>The pieces of a text that belong to a sample: whether one does depends on it and its place alone, so that a sample is the same however the work is divided.</summary>
    internal static IEnumerable<ReadOnlyMemory<byte>> Sample(SelectedDocument document, double share)
    {
        for (var start = 0; start < document.Utf8.Length;)
        {
            var rest = document.Utf8[start..];
            var length = rest.Length <= MaxPieceBytes ? rest.Length : Utf8Text.WholeCharacters(rest.Span[..MaxPieceBytes]);
            if (share >= 1 || Mixing.Unit(Mixing.Mix(document.Hash, (ulong)start)) < share)
            {
                yield return rest[..length];
            }

            start += length;
        }
    }

    private (WordCounts Words, long Bytes) Count(DocumentBatch batch, IWordSplitter splitter, double share)
    {
        var words = new WordCounts();
        long bytes = 0;
        foreach (var piece in batch.Documents.Where(d => CountsAllSplits || d.Split == 0).SelectMany(d => Sample(d, share)))
        {
            words.Add(piece.Span, splitter);
            bytes += piece.Length;
        }

        return (words, bytes);
    }
}
