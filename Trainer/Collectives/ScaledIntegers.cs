using LlmPipeline.Models;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// Numbers as whole multiples of a scale, one scale for each block of 256 elements, which all addends share, so that their sum is one of
/// integers. Rounded to one of the two nearest multiples at random, so that the expectation is the number itself (stochastic rounding):
/// what is lost in one round does not add up over many. The randomness is counted, so that a repetition gives the same integers.
/// </summary>
internal static class ScaledIntegers
{
    /// <summary>Elements of a block; the last one may be shorter.</summary>
    public const int BlockLength = 256;

    /// <summary>Blocks of a vector.</summary>
    public static int BlockCount(int length) => (length + BlockLength - 1) / BlockLength;

    /// <summary>Largest magnitude of an addend, so that the sum of all has at most 8 or 16 bits.</summary>
    public static int LimitFor(OuterWire wire, int addends) => (wire == OuterWire.Int8 ? sbyte.MaxValue : short.MaxValue) / addends;

    /// <summary>Tells the largest magnitude of each block.</summary>
    public static void Largest(ReadOnlySpan<float> values, Action<int, float> tell)
    {
        for (var block = 0; block * BlockLength < values.Length; block++)
        {
            var largest = 0f;
            foreach (var value in Block(values, block))
            {
                largest = Math.Max(largest, Math.Abs(value));
            }

            tell(block, largest);
        }
    }

    /// <summary>Adds multiples.</summary>
    /// <param name="values">Numbers; at most scale times limit.</param>
    /// <param name="scales">Of the blocks; 0 where all numbers are.</param>
    /// <param name="limit">Largest magnitude of a multiple.</param>
    /// <param name="random">Seed of the rounding; null rounds magnitudes up, for numbers that are divided by.</param>
    /// <param name="sums">Receives them.</param>
    public static void Add(ReadOnlySpan<float> values, ReadOnlySpan<float> scales, int limit, ulong? random, Span<long> sums)
    {
        for (var block = 0; block < scales.Length; block++)
        {
            var (scale, first) = (scales[block], block * BlockLength);
            if (!(scale > 0))
            {
                continue;
            }

            var numbers = Block(values, block);
            for (var i = 0; i < numbers.Length; i++)
            {
                // Float64, so that a quotient of two floats that is a whole number is one.
                var multiple = (double)numbers[i] / scale;
                var rounded = random is { } seed ? Math.Floor(multiple + Seeds.Uniform(seed, (ulong)(first + i))) : Math.CopySign(Math.Ceiling(Math.Abs(multiple)), multiple);
                sums[first + i] += (long)Math.Clamp(rounded, -limit, limit);
            }
        }
    }

    /// <summary>Turns sums into numbers.</summary>
    /// <param name="sums">The integers times 2^-44, as an exchange of sums leaves them.</param>
    /// <param name="scales">Of the blocks.</param>
    /// <param name="values">Receives the numbers.</param>
    public static void ToSingle(ReadOnlySpan<float> sums, ReadOnlySpan<float> scales, Span<float> values)
    {
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = sums[i] * (float)(1L << 44) * scales[i / BlockLength];
        }
    }

    private static ReadOnlySpan<float> Block(ReadOnlySpan<float> values, int block) =>
        values.Slice(block * BlockLength, Math.Min(BlockLength, values.Length - (block * BlockLength)));
}
