namespace LlmPipeline.Trainer;

/// <summary>What many numbers come to.</summary>
internal static class Statistics
{
    /// <summary>The median of at least one number; of an even count the mean of the two in the middle.</summary>
    public static double Median(IReadOnlyList<double> values)
    {
        double[] sorted = [.. values];
        Array.Sort(sorted);
        return sorted.Length % 2 == 1 ? sorted[sorted.Length / 2] : (sorted[(sorted.Length / 2) - 1] + sorted[sorted.Length / 2]) / 2;
    }
}
