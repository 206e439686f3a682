using System.Text;

namespace LlmPipeline.Models;

/// <summary>Seeds by name: every use of randomness derives its own from (run seed, purpose, position).</summary>
/// <remarks>
/// <c>h = Mix(seed); h = Mix(h ^ FNV-1a64(UTF-8 of purpose)); h = Mix(h ^ position); h = Mix(h ^ subPosition)</c>, where Mix is
/// the output function of SplitMix64 (Steele, Lea, Flood 2014) after adding its increment. The values are part of what a run
/// means: a change of this function changes every run.
/// </remarks>
public static class Seeds
{
    private const ulong Increment = 0x9E3779B97F4A7C15;

    /// <summary>The seed of one use, for example <c>Derive(run.Seed, "dropout", microBatch)</c>.</summary>
    public static ulong Derive(long seed, string purpose, long position = 0, long subPosition = 0)
    {
        ArgumentNullException.ThrowIfNull(purpose);
        var hash = Mix((ulong)seed);
        hash = Mix(hash ^ Hash(purpose));
        hash = Mix(hash ^ (ulong)position);
        return Mix(hash ^ (ulong)subPosition);
    }

    /// <summary>SplitMix64's next output for a state: a bijection of 64-bit numbers in which every input bit moves every output bit.</summary>
    internal static ulong Mix(ulong state)
    {
        state += Increment;
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9;
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB;
        return state ^ (state >> 31);
    }

    /// <summary>The n-th number in [0, 1) of a seed, with 53 random bits.</summary>
    public static double Uniform(ulong seed, ulong n) => (Mix(seed + (n * Increment)) >> 11) * (1.0 / (1L << 53));

    private static ulong Hash(string text)
    {
        var hash = 0xCBF29CE484222325;
        foreach (var value in Encoding.UTF8.GetBytes(text))
        {
            hash = (hash ^ value) * 0x100000001B3;
        }

        return hash;
    }
}
