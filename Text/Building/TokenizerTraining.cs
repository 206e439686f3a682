using LlmPipeline.Storage;
using LlmPipeline.Text.Shards;

namespace LlmPipeline.Text.Building;

/// <summary>The tokenizer of a job, <c>tokenizer.json</c> in its folder.</summary>
/// <param name="Name">Format: <c>tokenizers/{t}</c>.</param>
internal sealed record TrainedTokenizer(string Name);

/// <summary>Makes the tokenizer of the counts of all units. One process does it.</summary>
internal static class TokenizerTraining
{
    private const string File = "tokenizer.json";

    /// <summary>Name of the tokenizer that was made; null when there is none yet.</summary>
    public static async Task<string?> TryFindAsync(JobFolder folder, CancellationToken cancellationToken) =>
        folder.Job.Recipe.Tokenizer.Name ?? (await folder.TryReadAsync(File, BuildJson.Default.TrainedTokenizer, cancellationToken))?.Name;

    /// <summary>Makes it, and removes the counts.</summary>
    public static async Task<string> TrainAsync(
        IBlobStore store, JobFolder folder, UnitPlan plan, Selection selection, BuildProgress progress, CancellationToken cancellationToken)
    {
        var words = await MergeAsync(folder, plan, selection, cancellationToken);
        var tokenizer = await Task.Run(() => TokenizerTrainer.Train(words, folder.Job.Recipe.Tokenizer.Options, progress.SetStepFraction, cancellationToken), cancellationToken);
        var name = await StoredTokenizers.WriteAsync(store, tokenizer, cancellationToken);
        await folder.WriteAsync(File, new TrainedTokenizer(name), BuildJson.Default.TrainedTokenizer, cancellationToken);
        for (var unit = 0; unit < selection.UnitCount; unit++)
        {
            await folder.DeleteAsync(WordCounting.FileOf(unit), cancellationToken);
        }

        return name;
    }

    /// <summary>The counts of all units, with the parts of a mixture balanced: one with share p of the text counts as p^balance, which leaves the largest as it is.</summary>
    internal static async Task<WordCounts> MergeAsync(JobFolder folder, UnitPlan plan, Selection selection, CancellationToken cancellationToken)
    {
        var weights = Weights(selection.PartBytes, folder.Job.Recipe.Tokenizer.Balance);
        var total = new WordCounts();
        for (var part = 0; part < plan.Parts.Count; part++)
        {
            var (first, count) = (plan.Parts[part].FirstUnit, plan.Parts[part].UnitCount);
            var sum = weights[part] == 1 ? total : new WordCounts();
            for (var unit = first; unit < Math.Min(first + count, selection.UnitCount); unit++)
            {
                await using var stream = await folder.OpenReadAsync(WordCounting.FileOf(unit), cancellationToken);
                sum.Merge(WordCounts.Read(stream));
            }

            if (sum != total)
            {
                total.Merge(sum, weights[part]);
            }
        }

        return total;
    }

    /// <summary>What each count of a part is multiplied by.</summary>
    internal static double[] Weights(IReadOnlyList<long> partBytes, double balance)
    {
        var largest = Math.Max(1, partBytes.Max());
        return [.. partBytes.Select(bytes => bytes == 0 || balance == 1 ? 1 : Math.Pow((double)bytes / largest, balance - 1))];
    }
}
