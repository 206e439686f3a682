using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>How much of a part of a mixture is written.</summary>
/// <param name="Tokens">Training ids to write.</param>
/// <param name="Copies">How often the whole part is written.</param>
/// <param name="Rest">Further ids, of some of its documents.</param>
internal sealed record PartBudget(long Tokens, long Copies, long Rest)
{
    /// <summary>The documents whose selection key is below this are written once more; that at it is cut.</summary>
    public SelectionEnd? End { get; init; }
}

/// <summary>Where the rest of a part ends, in the order of selection keys.</summary>
/// <param name="Key">Key of the document that is cut.</param>
/// <param name="Unit">Its unit.</param>
/// <param name="Document">Its number among the training documents of the unit.</param>
/// <param name="Tokens">How many of its ids are taken.</param>
internal sealed record SelectionEnd(ulong Key, int Unit, int Document, int Tokens);

/// <summary>Divides the training tokens among the parts of a mixture by their weights.</summary>
internal static class TokenBudget
{
    private const long MaxCopies = 10_000;

    /// <summary>What of each part is written.</summary>
    /// <param name="recipe">Weights and limit.</param>
    /// <param name="partTokens">Training ids that each part has.</param>
    /// <exception cref="TextSourceException">A part would have to be repeated absurdly often.</exception>
    public static PartBudget[] Divide(DatasetRecipe recipe, IReadOnlyList<long> partTokens)
    {
        var available = partTokens.Sum();
        var weighted = recipe.Parts.Any(p => p.Weight is not null);
        if (!weighted)
        {
            // Nothing is repeated: a limit cuts the whole, in proportion.
            var limit = recipe.MaxTokens == 0 ? available : Math.Min(recipe.MaxTokens, available);
            var shares = Proportional(limit, [.. partTokens.Select(t => (double)t)]);
            return [.. partTokens.Select((tokens, i) => shares[i] == tokens ? new PartBudget(tokens, 1, 0) : new PartBudget(shares[i], 0, shares[i]))];
        }

        var total = recipe.MaxTokens == 0 ? available : recipe.MaxTokens;
        var targets = Proportional(total, [.. recipe.Parts.Select((p, i) => partTokens[i] == 0 ? 0 : p.Weight ?? 1)]);
        return [.. targets.Select((target, i) =>
        {
            if (target == 0)
            {
                return new PartBudget(0, 0, 0);
            }

            var copies = target / partTokens[i];
            return copies <= MaxCopies ? new PartBudget(target, copies, target % partTokens[i]) : throw new TextSourceException(TextSourceProblem.Empty,
                $"Part '{recipe.Parts[i].Label}' of the mixture has {partTokens[i]} training tokens, and would have to be repeated {copies} times for its share of {target}. Give it more text, or a smaller weight, or lower max_tokens.");
        })];
    }

    /// <summary>Whole shares that add up to the total.</summary>
    internal static long[] Proportional(long total, double[] weights)
    {
        var sum = (decimal)weights.Sum();
        var ends = new long[weights.Length + 1];
        decimal before = 0;
        for (var i = 0; i < weights.Length; i++)
        {
            before += (decimal)weights[i];
            ends[i + 1] = sum == 0 ? 0 : (long)Math.Round(total * (before / sum));
        }

        return [.. weights.Select((_, i) => ends[i + 1] - ends[i])];
    }
}
