namespace LlmPipeline.Models;

/// <summary>Stateless permutations: any place is a seek.</summary>
/// <remarks>
/// A Feistel network over the next power of four, walked until the result is in range (cycle walking: still a bijection; under 4
/// rounds of the walk on average).
/// </remarks>
public static class Permutation
{
    private const int Rounds = 6;

    /// <summary>Where <paramref name="place"/> goes in the permutation of a key.</summary>
    /// <param name="place">0 to <paramref name="count"/>, exclusive.</param>
    /// <param name="count">Number of places.</param>
    /// <param name="key">Which permutation.</param>
    public static long Of(long place, long count, ulong key)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(place);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(place, count);
        var halfBits = 0;
        while (1L << (2 * halfBits) < count)
        {
            halfBits++;
        }

        var mask = (1UL << halfBits) - 1;
        var value = (ulong)place;
        do
        {
            ulong left = value >> halfBits, right = value & mask;
            for (var round = 0UL; round < Rounds; round++)
            {
                (left, right) = (right, left ^ (Seeds.Mix(key ^ (round << 56) ^ right) & mask));
            }

            value = (left << halfBits) | right;
        }
        while (value >= (ulong)count);

        return (long)value;
    }
}
