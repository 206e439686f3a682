using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

public sealed class ScaledIntegersTests
{
    [Theory]
    [InlineData(true, 2)]
    [InlineData(true, 16)]
    [InlineData(false, 64)]
    public void SumsFitTheirBitsAndAreOffByLessThanOneScaleAnAddend(bool isInt8, int addends)
    {
        var wire = isInt8 ? OuterWire.Int8 : OuterWire.Int16;
        var random = new Random(3);
        float[][] values = [.. Enumerable.Range(0, addends).Select(_ => Normal(random, 1000))];
        var limit = ScaledIntegers.LimitFor(wire, addends);
        var scales = new float[ScaledIntegers.BlockCount(1000)];
        Assert.Equal(4, scales.Length);
        foreach (var addend in values)
        {
            ScaledIntegers.Largest(addend, (block, largest) => scales[block] = Math.Max(scales[block], largest / limit));
        }

        var sums = new long[1000];
        for (var i = 0; i < addends; i++)
        {
            ScaledIntegers.Add(values[i], scales, limit, (ulong)i, sums);
        }

        Assert.All(sums, sum => Assert.InRange(sum, -(isInt8 ? sbyte.MaxValue : short.MaxValue), isInt8 ? sbyte.MaxValue : short.MaxValue));
        var results = new float[1000];
        ScaledIntegers.ToSingle([.. sums.Select(sum => (float)(sum * Math.ScaleB(1, -44)))], scales, results);
        for (var i = 0; i < results.Length; i++)
        {
            Assert.InRange(results[i] - values.Sum(v => (double)v[i]), -1.001 * addends * scales[i / 256], 1.001 * addends * scales[i / 256]);
        }
    }

    [Fact]
    public void WhatIsLostIsNothingOnAverage()
    {
        var values = Normal(new Random(4), 256);
        var limit = 7;
        float[] scales = [values.Max(Math.Abs) / limit];
        var sums = new long[256];
        const int Rounds = 4000;
        for (var round = 0; round < Rounds; round++)
        {
            ScaledIntegers.Add(values, scales, limit, (ulong)(round * 977), sums);
        }

        // A rounding to two neighbours has a standard deviation of at most half a scale.
        for (var i = 0; i < 256; i++)
        {
            Assert.Equal(values[i], (double)sums[i] / Rounds * scales[0], 5 * 0.5 * scales[0] / Math.Sqrt(Rounds));
        }
    }

    [Fact]
    public void ARepetitionGivesTheSameIntegersAndZerosStayZero()
    {
        var values = Normal(new Random(5), 600);
        values.AsSpan(256, 256).Clear();
        float[] scales = [0.01f, 0, 0.01f];
        var (once, again, other) = (new long[600], new long[600], new long[600]);
        ScaledIntegers.Add(values, scales, 10_000, 5, once);
        ScaledIntegers.Add(values, scales, 10_000, 5, again);
        ScaledIntegers.Add(values, scales, 10_000, 6, other);
        Assert.Equal(once, again);
        Assert.NotEqual(once, other);
        Assert.All(once[256..512], sum => Assert.Equal(0, sum));
    }

    [Fact]
    public void WhatIsDividedByIsNeverRoundedDown()
    {
        float[] values = [0, 1e-6f, 0.5f, 1];
        var sums = new long[4];
        ScaledIntegers.Add(values, [0.25f], 4, null, sums);
        Assert.Equal([0L, 1, 2, 4], sums);
    }

    private static float[] Normal(Random random, int count) =>
        [.. Enumerable.Range(0, count).Select(_ => (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()) * 1e-3))];
}
