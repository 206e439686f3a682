using System.Text;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>Picks the text that a tokenizer is made from.</summary>
internal static class TokenizerTraining
{
    /// <summary>BPE is trained on at most this many bytes: more change its merges hardly, and cost time and memory.</summary>
    public const long MaxSampleBytes = 32 << 20;

    // No document stands for more than this of a sample.
    private const int MaxPieceBytes = 1 << 20;

    /// <summary>Makes a new tokenizer.</summary>
    public static async Task<ITokenizer> TrainAsync(
        DatasetRecipe recipe, DocumentSpool spool, SplitRange train, int degree, BuildProgress progress, CancellationToken cancellationToken)
    {
        if (recipe.TokenizerKind == "character")
        {
            return CharacterTokenizer.Create(await CharactersAsync(spool, degree, cancellationToken));
        }

        return await Task.Run(() => BpeTrainer.Train(
            WordCounts.Count(Sample(spool, train), WordSplitter.Default, degree, cancellationToken),
            new BpeOptions(recipe.VocabularySize), progress.SetStageFraction, cancellationToken), cancellationToken);
    }

    /// <summary>Text of the split, spread evenly over it when there is more than fits.</summary>
    /// <param name="spool">The documents.</param>
    /// <param name="train">The training split.</param>
    /// <param name="maxBytes">Size of the sample.</param>
    public static IEnumerable<ReadOnlyMemory<byte>> Sample(DocumentSpool spool, SplitRange train, long maxBytes = MaxSampleBytes)
    {
        var share = Math.Min(1, (double)maxBytes / Math.Max(1, spool.ByteCount));
        double owed = 0;
        foreach (var document in spool.Read(train).SelectMany(b => b.Documents))
        {
            for (var start = 0; start < document.Utf8.Length;)
            {
                var rest = document.Utf8.Span[start..];
                var length = rest.Length <= MaxPieceBytes ? rest.Length : Utf8Text.WholeCharacters(rest[..MaxPieceBytes]);
                owed += length * share;
                if (share == 1 || owed >= length)
                {
                    owed -= length;
                    yield return document.Utf8.Slice(start, length);
                }

                start += length;
            }
        }
    }

    /// <summary>All code points of all splits, in ascending order.</summary>
    public static async Task<IReadOnlyList<Rune>> CharactersAsync(DocumentSpool spool, int degree, CancellationToken cancellationToken)
    {
        var all = new bool[0x110000];
        await foreach (var characters in spool.Read(SplitRange.All).ToAsyncEnumerable().SelectOrdered(CharactersOf, degree, cancellationToken))
        {
            foreach (var character in characters)
            {
                all[character] = true;
            }
        }

        return [.. Enumerable.Range(0, all.Length).Where(c => all[c]).Select(c => new Rune(c))];
    }

    private static HashSet<int> CharactersOf(SpoolBatch batch)
    {
        var found = new HashSet<int>();
        foreach (var document in batch.Documents)
        {
            foreach (var rune in Encoding.UTF8.GetString(document.Utf8.Span).EnumerateRunes())
            {
                found.Add(rune.Value);
            }
        }

        return found;
    }
}
