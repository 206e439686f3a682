using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>Which text goes into which split.</summary>
internal sealed class SplitPlan(DatasetRecipe recipe)
{
    /// <summary>Names of the splits, in the order of their numbers.</summary>
    public static readonly string[] Names = ["train", "validation", "test"];

    /// <summary>The split that a document is spooled for. With a tail split, that is decided once all text is known.</summary>
    public int SplitOf(CleanDocument document) => recipe.SplitMethod == SplitMethod.Tail ? 0
        : document.SplitPosition < recipe.ValidationFraction ? 1
        : document.SplitPosition < recipe.ValidationFraction + recipe.TestFraction ? 2
        : 0;

    /// <summary>Where the splits lie.</summary>
    /// <exception cref="TextSourceException">A wanted split would be empty.</exception>
    public IReadOnlyList<(string Name, SplitRange Range)> Ranges(DocumentSpool spool)
    {
        var ranges = recipe.SplitMethod == SplitMethod.Tail ? TailRanges(spool.CharacterCount) : [.. Enumerable.Range(0, 3).Select(i => new SplitRange(i, 0, 0))];
        var splits = new List<(string, SplitRange)>();
        double[] shares = [1, recipe.ValidationFraction, recipe.TestFraction];
        for (var i = 0; i < ranges.Length; i++)
        {
            if (shares[i] == 0)
            {
                continue;
            }

            var isEmpty = recipe.SplitMethod == SplitMethod.Tail ? ranges[i].StartCharacter == ranges[i].EndCharacter : spool.Counts[i].Documents == 0;
            if (isEmpty)
            {
                throw new TextSourceException(TextSourceProblem.Empty, recipe.SplitMethod == SplitMethod.Tail
                    ? $"The {Names[i]} split would be empty: there are only {spool.CharacterCount} characters of text. Give more text or a larger share."
                    : $"The {Names[i]} split would be empty: there are only {spool.DocumentCount} different documents to divide. Set split.method to tail, or give more documents.");
            }

            splits.Add((Names[i], ranges[i]));
        }

        return splits;
    }

    private SplitRange[] TailRanges(long characters)
    {
        // Decimal: 0.1 means a tenth.
        var test = (decimal)recipe.TestFraction;
        var trainEnd = (long)(characters * (1 - (decimal)recipe.ValidationFraction - test));
        var validationEnd = test == 0 ? characters : (long)(characters * (1 - test));
        return [new(null, 0, trainEnd), new(null, trainEnd, validationEnd), new(null, validationEnd, characters)];
    }
}
