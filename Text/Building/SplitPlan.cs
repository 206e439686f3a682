using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>Which text goes into which split.</summary>
internal sealed class SplitPlan(DatasetRecipe recipe)
{
    /// <summary>Names of the splits, in the order of their numbers.</summary>
    public static readonly string[] Names = ["train", "validation", "test"];

    /// <summary>The split of a document. With a tail split, that is decided once all text is known.</summary>
    public byte SplitOf(DocumentSignature signature) => recipe.SplitMethod == SplitMethod.Tail ? (byte)0
        : signature.SplitPosition < recipe.ValidationFraction ? (byte)1
        : signature.SplitPosition < recipe.ValidationFraction + recipe.TestFraction ? (byte)2
        : (byte)0;

    /// <summary>Numbers of the splits that the dataset has.</summary>
    public IReadOnlyList<int> Present
    {
        get
        {
            double[] shares = [1, recipe.ValidationFraction, recipe.TestFraction];
            return [.. Enumerable.Range(0, Names.Length).Where(i => shares[i] > 0)];
        }
    }

    /// <summary>Where the splits end in all kept text, in characters, for a tail split; null where documents are divided.</summary>
    public long[]? TailEnds(Selection selection)
    {
        if (recipe.SplitMethod != SplitMethod.Tail)
        {
            return null;
        }

        // Decimal: 0.1 means a tenth.
        var characters = selection.Characters;
        var test = (decimal)recipe.TestFraction;
        var trainEnd = (long)(characters * (1 - (decimal)recipe.ValidationFraction - test));
        var validationEnd = test == 0 ? characters : (long)(characters * (1 - test));
        return [trainEnd, validationEnd, characters];
    }

    /// <summary>Makes sure that every wanted split has text.</summary>
    /// <exception cref="TextSourceException">One would be empty.</exception>
    public void RequireText(Selection selection)
    {
        var ends = TailEnds(selection);
        foreach (var split in Present)
        {
            var isEmpty = ends is null ? selection.Splits[split].Documents == 0 : ends[split] == (split == 0 ? 0 : ends[split - 1]);
            if (isEmpty)
            {
                throw new TextSourceException(TextSourceProblem.Empty, ends is not null
                    ? $"The {Names[split]} split would be empty: there are only {selection.Characters} characters of text. Give more text or a larger share."
                    : $"The {Names[split]} split would be empty: there are only {selection.Documents} different documents to divide. Set split.method to tail, or give more documents.");
            }
        }
    }
}
