using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Tests;

public sealed class FixedPointTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(16)]
    [InlineData(1003)]
    public void AllPathsGiveTheSameBits(int length)
    {
        var random = new Random(length);
        for (var round = 0; round < 50; round++)
        {
            var values = Values(random, length);
            var start = Enumerable.Range(0, length).Select(_ => random.NextInt64(-(1L << 60), 1L << 60)).ToArray();
            var overwrite = round % 2 == 0;

            var (scalarValues, scalar) = (values.ToArray(), start.ToArray());
            Assert.True(FixedPoint.AddScalar(scalarValues, scalar, overwrite, FixedPoint.AddendLimit));
            var (fastValues, fast) = (values.ToArray(), start.ToArray());
            Assert.True(FixedPoint.AddAndClear(fastValues, fast, overwrite, FixedPoint.AddendLimit));
            var (values256, sums256) = (values.ToArray(), start.ToArray());
            var done = FixedPoint.Add256(values256, sums256, overwrite, FixedPoint.AddendLimit);
            Assert.True(FixedPoint.AddScalar(values256.AsSpan(done), sums256.AsSpan(done), overwrite, FixedPoint.AddendLimit));

            Assert.Equal(scalar, fast);
            Assert.Equal(scalar, sums256);
            Assert.All(fastValues, v => Assert.Equal(0, v));
            Assert.Equal(values, values256);
        }
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    [InlineData(131072f)]
    [InlineData(-1e30f)]
    public void WhatIsTooLargeOrNotFiniteIsSeenAtEveryPosition(float bad)
    {
        for (var position = 0; position < 37; position++)
        {
            var values = new float[37];
            values[position] = bad;
            Assert.False(FixedPoint.AddAndClear(values.ToArray(), new long[37], false, FixedPoint.AddendLimit));
            Assert.False(FixedPoint.AddScalar(values.ToArray(), new long[37], false, FixedPoint.AddendLimit));
            Assert.False(FixedPoint.Round(values.ToArray(), FixedPoint.AddendLimit));
            Assert.False(FixedPoint.RoundScalar(values.ToArray(), FixedPoint.AddendLimit));
            var copy = values.ToArray();
            var sums = new long[37];
            var done = FixedPoint.Add256(copy, sums, false, FixedPoint.AddendLimit);
            Assert.True(done < 0 || !FixedPoint.AddScalar(copy.AsSpan(done), sums.AsSpan(done), false, FixedPoint.AddendLimit));
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(16)]
    [InlineData(1003)]
    public void RoundingInPlaceGivesTheBitsOfTheSumOfOneAddend(int length)
    {
        var random = new Random(length);
        for (var round = 0; round < 50; round++)
        {
            var values = Values(random, length);
            values[0] = round switch { 0 => -0f, 1 => float.Epsilon, 2 => -float.Epsilon, 3 => BitConverter.Int32BitsToSingle(-0x69000000), _ => values[0] };
            var (sums, expected) = (new long[length], new float[length]);
            Assert.True(FixedPoint.AddAndClear(values.ToArray(), sums, true, FixedPoint.AddendLimit));
            FixedPoint.ToSingle(sums, expected);
            var (fast, scalar) = (values.ToArray(), values.ToArray());
            Assert.True(FixedPoint.Round(fast, FixedPoint.AddendLimit));
            Assert.True(FixedPoint.RoundScalar(scalar, FixedPoint.AddendLimit));
            Assert.Equal(expected.Select(BitConverter.SingleToInt32Bits), fast.Select(BitConverter.SingleToInt32Bits));
            Assert.Equal(expected.Select(BitConverter.SingleToInt32Bits), scalar.Select(BitConverter.SingleToInt32Bits));

            // What is rounded is the same integers again.
            var again = new long[length];
            Assert.True(FixedPoint.Add(fast, again, true, FixedPoint.AddendLimit));
            Assert.Equal(sums, again);
        }
    }

    [Fact]
    public void NoSumOfAllowedAddendsOverflows()
    {
        foreach (var addends in new[] { 1, 2, 4, 5, 64, 1000 })
        {
            var largest = MathF.BitDecrement(FixedPoint.LimitFor(addends));
            var sum = new long[1];
            for (var i = 0; i < addends; i++)
            {
                var before = sum[0];
                Assert.True(FixedPoint.AddAndClear([largest], sum, i == 0, FixedPoint.LimitFor(addends)));
                Assert.True(sum[0] > before);
            }
        }
    }

    [Fact]
    public void SumsAreWithinHalfAUnitOfEachAddend()
    {
        var random = new Random(3);
        const int Addends = 32;
        var sums = new long[513];
        var exact = new double[513];
        for (var addend = 0; addend < Addends; addend++)
        {
            var values = Values(random, sums.Length);
            for (var i = 0; i < values.Length; i++)
            {
                values[i] = (float)(values[i] * 1e-4);
                exact[i] += values[i];
            }

            Assert.True(FixedPoint.AddAndClear(values, sums, addend == 0, FixedPoint.LimitFor(Addends)));
        }

        var results = new float[sums.Length];
        FixedPoint.ToSingle(sums, results);
        for (var i = 0; i < results.Length; i++)
        {
            var bound = (Addends * Math.Pow(2, -45)) + (Math.Abs(exact[i]) * Math.Pow(2, -23));
            Assert.InRange(results[i] - exact[i], -bound, bound);
        }
    }

    [Fact]
    public void ConversionBackIsTheSameInEveryPath()
    {
        var random = new Random(4);
        var sums = Enumerable.Range(0, 1000).Select(_ => random.NextInt64(long.MinValue, long.MaxValue) >> random.Next(60)).ToArray();
        var results = new float[sums.Length];
        FixedPoint.ToSingle(sums, results);
        for (var i = 0; i < sums.Length; i++)
        {
            Assert.Equal((float)(sums[i] * Math.Pow(2, -44)), results[i]);
        }
    }

    private static float[] Values(Random random, int length) => [.. Enumerable.Range(0, length).Select(_ =>
        (float)((random.NextDouble() - 0.5) * Math.Pow(2, random.Next(-60, 18))))];
}
