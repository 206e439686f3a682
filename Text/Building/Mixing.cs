namespace LlmPipeline.Text.Building;

/// <summary>Order from hashes.</summary>
internal static class Mixing
{
    /// <summary>Another hash for each purpose (the finalizer of SplitMix64, Steele et al. 2014).</summary>
    public static ulong Mix(ulong hash, ulong purpose)
    {
        var z = unchecked(hash + (0x9E3779B97F4A7C15 * (purpose + 1)));
        z = unchecked((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9);
        z = unchecked((z ^ (z >> 27)) * 0x94D049BB133111EB);
        return z ^ (z >> 31);
    }

    /// <summary>0 to 1, uniform.</summary>
    public static double Unit(ulong hash) => (hash >> 11) * (1.0 / (1L << 53));
}
