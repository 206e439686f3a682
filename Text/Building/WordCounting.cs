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

    private readonly TokenizerRecipe _tokenizer = folder.Job.Recipe.Tokenizer;

    public static string FileOf(int unit) => string.Create(CultureInfo.InvariantCulture, $"count/{unit:D6}");

    /// <summary>Counts one unit.</summary>
    public async Task<CountResult> CountAsync(int unit, int degree, CancellationToken cancellationToken)
    {
        var counter = TokenizerKinds.CounterOf(_tokenizer);
        var share = counter.IsSampled ? Math.Min(1, (double)MaxSampleBytes / Math.Max(1, selection.PartBytes.Sum())) : 1;
        var total = new WordCounts();
        long bytes = 0;
        var counted = new SelectedDocuments(folder, selection).ReadAsync(unit, cancellationToken)
            .SelectOrdered(batch => Count(batch, counter, share), degree, cancellationToken);
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

    private static (WordCounts Words, long Bytes) Count(DocumentBatch batch, TokenCounter counter, double share)
    {
        var words = new WordCounts();
        long bytes = 0;
        foreach (var piece in batch.Documents.Where(d => counter.CountsAllSplits || d.Split == 0).SelectMany(d => Sample(d, share)))
        {
            counter.Add(words, piece.Span);
            bytes += piece.Length;
        }

        return (words, bytes);
    }
}

/// <summary>How a kind of tokenizer counts text.</summary>
/// <param name="IsSampled">Whether a sample does; a vocabulary of characters has to be whole.</param>
/// <param name="CountsAllSplits">Whether text of all splits is counted, or that for training alone.</param>
/// <param name="Add">Counts a text.</param>
internal sealed record TokenCounter(bool IsSampled, bool CountsAllSplits, TokenCounter.Count Add)
{
    public delegate void Count(WordCounts words, ReadOnlySpan<byte> utf8);
}
