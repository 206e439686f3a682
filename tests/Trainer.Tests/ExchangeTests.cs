using System.Numerics;
using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Tests;

/// <summary>What is sent and how it is summed, over the in-memory ring with chunks that are late by chance.</summary>
public sealed class ExchangeTests
{
    private const int Slots = 7;
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(60);

    [Theory]
    [InlineData("Fp32")]
    [InlineData("Bf16")]
    public async Task ExactSumsAreTheSameBitsOnAnyNumberOfRanksInAnyRangesHoweverLate(string wire)
    {
        var random = new Random(5);
        var format = new ExchangeFormat(SumMode.Exact, Enum.Parse<WireFormat>(wire));
        for (var round = 0; round < 4; round++)
        {
            var length = random.Next(1, 20_000);
            var gradients = Gradients(random, 7, length);
            var expected = (await SumAsync(1, gradients, format, [length], random))[0];
            foreach (var size in new[] { 2, 3, 4, 7 })
            {
                int[] cuts = [.. Enumerable.Range(0, random.Next(3)).Select(_ => random.Next(length + 1)).Order(), length];
                Assert.All(await SumAsync(size, gradients, format, cuts, random), result => Assert.Equal(expected, result));
            }
        }
    }

    [Theory]
    [InlineData("Fp32", 24)]
    [InlineData("Bf16", 8)]
    public async Task PlainSumsAreTheSameBitsOnAllRanksAndNearFloat64Sums(string wire, int bits)
    {
        var random = new Random(6);
        var format = new ExchangeFormat(SumMode.Plain, Enum.Parse<WireFormat>(wire));
        foreach (var size in new[] { 1, 2, 3, 4, 7 })
        {
            var gradients = Gradients(random, 7, 5003);
            var results = await SumAsync(size, gradients, format, [1000, 5003], random);
            Assert.All(results, result => Assert.Equal(results[0], result));
            for (var i = 0; i < 5003; i++)
            {
                // Each of at most 7 partial sums is rounded, by at most half a unit of what the magnitudes sum to.
                var magnitude = gradients.Sum(g => Math.Abs((double)g[i]));
                Assert.Equal(gradients.Sum(g => (double)g[i]), BitConverter.Int32BitsToSingle(results[0][i]), (8 * magnitude * Math.Pow(2, -bits)) + double.Epsilon);
            }
        }
    }

    // The bound of docs/protocol.md, section "The exact sum", against sums without any rounding.
    [Fact]
    public async Task AnExactSumIsWithinItsBound()
    {
        var random = new Random(7);
        foreach (var addends in new[] { 1, 2, 16, 300 })
        {
            var gradients = Gradients(random, addends, 2000);
            var results = await SumAsync(Math.Min(addends, 3), gradients, ExchangeFormat.Exact, [2000], random);
            for (var i = 0; i < 2000; i++)
            {
                // Multiples of 2^-149 are integers.
                var sum = BigInteger.Zero;
                foreach (var gradient in gradients)
                {
                    sum += new BigInteger(Math.ScaleB((double)gradient[i], 149));
                }

                var error = Math.Abs((double)(sum - new BigInteger(Math.ScaleB((double)BitConverter.Int32BitsToSingle(results[0][i]), 149)))) * Math.Pow(2, -149);
                var bound = (addends * Math.Pow(2, -45)) + (Math.Pow(2, -24) * Math.Abs((double)sum) * Math.Pow(2, -149) * (1 + Math.Pow(2, -28)));
                Assert.True(error <= bound, $"The sum of {addends} is off by {error}, more than {bound}.");
            }
        }
    }

    [Fact]
    public async Task AChunkThatComesTwiceBreaksTheRingOfAll()
    {
        var rings = InMemoryRing.Create(3);
        rings[1].RepeatChunk = 2;
        var runs = rings.Select(ring => new RingAllReduce(ring, 32).RunAsync(1, Buckets.Gradients, new ExchangeBuffer(500, Slots))).ToArray();
        await Task.WhenAll(runs).ContinueWith(_ => { }, TaskScheduler.Default).WaitAsync(Timeout);
        Assert.All(runs, run => Assert.IsType<RingBrokenException>(run.Exception?.InnerException));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(255)]
    [InlineData(256)]
    [InlineData(1003)]
    public void SumsOfEveryWidthComeBackAsTheyWere(int count)
    {
        var random = new Random(count);
        for (var bits = 0; bits <= 64; bits++)
        {
            var sums = Enumerable.Range(0, count).Select(_ => bits == 0 ? 0 : random.NextInt64(long.MinValue, long.MaxValue) >> (64 - bits)).ToArray();
            var bytes = new byte[PackedSums.MaxBytes(count)];
            var length = PackedSums.Pack(sums, bytes);
            var added = Enumerable.Range(0, count).Select(i => (long)i).ToArray();

            // Nothing lies behind the last byte.
            Assert.Equal(length, PackedSums.Add(bytes.AsSpan(0, length).ToArray(), added));
            Assert.Equal(sums.Select((sum, i) => unchecked(sum + i)), added);
            Assert.True(length <= ((bits + 7) / 8 * count) + (count / PackedSums.BlockLength) + 1 + (bits % 8 == 0 ? count : 0));
            if (length > 1)
            {
                Assert.Throws<InvalidDataException>(() => PackedSums.Add(bytes.AsSpan(0, length - 1).ToArray(), new long[count]));
            }
        }

        Assert.Throws<InvalidDataException>(() => PackedSums.Add([9, 1, 2, 3], new long[count]));
    }

    [Fact]
    public void BFloat16RoundsToNearestEven()
    {
        var random = new Random(8);
        float[] special = [0, -0f, 1, 1.00390625f, 1.01171875f, float.MaxValue, float.PositiveInfinity, float.NegativeInfinity, float.NaN, BitConverter.UInt32BitsToSingle(0x7FFFFFFF), float.Epsilon, 1e-40f];
        var values = special.Concat(Enumerable.Range(0, 999).Select(_ => BitConverter.Int32BitsToSingle(random.Next(int.MinValue, int.MaxValue)))).ToArray();
        var bytes = new byte[2 * values.Length];
        BFloat16s.Encode(values, bytes);
        var (decoded, rounded) = (new float[values.Length], values.ToArray());
        BFloat16s.Decode(bytes, decoded);
        BFloat16s.Round(rounded);
        for (var i = 0; i < values.Length; i++)
        {
            Assert.Equal(Nearest(values[i]), decoded[i]);
            Assert.Equal(BitConverter.SingleToInt32Bits(decoded[i]), BitConverter.SingleToInt32Bits(rounded[i]));
        }

        // The nearer of the two neighbours with 8 bits of significand; of equally near ones the even one.
        static float Nearest(float value)
        {
            if (!float.IsFinite(value))
            {
                return value;
            }

            var below = BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(value) & 0xFFFF0000);
            var bits = (BitConverter.SingleToUInt32Bits(value) & 0xFFFF0000) + 0x10000;
            var above = BitConverter.UInt32BitsToSingle(bits);
            var next = float.IsInfinity(above) ? Math.CopySign(Math.ScaleB(1.0, 128), value) : above;
            var (low, high) = (Math.Abs((double)value - below), Math.Abs(next - value));
            return low < high || (low == high && (bits & 0x10000) != 0) ? below : above;
        }
    }

    private static float[][] Gradients(Random random, int count, int length) => [.. Enumerable.Range(0, count).Select(_ => Enumerable.Range(0, length)
        .Select(_ => (float)((random.NextDouble() - 0.5) * Math.Pow(2, random.Next(-44, 6)))).ToArray())];

    /// <summary>Results of all ranks, as bits; micro-batches are dealt out in any way.</summary>
    private static async Task<int[][]> SumAsync(int size, float[][] gradients, ExchangeFormat format, int[] cuts, Random random)
    {
        var buffers = Enumerable.Range(0, size).Select(_ => new ExchangeBuffer(gradients[0].Length, Slots, format: format)).ToArray();
        var limit = FixedPoint.LimitFor(gradients.Length);
        foreach (var share in gradients.GroupBy(_ => random.Next(size)))
        {
            var (buffer, own) = (buffers[share.Key], share.ToList());
            if (format.Mode == SumMode.Plain)
            {
                foreach (var gradient in own)
                {
                    for (var i = 0; i < gradient.Length; i++)
                    {
                        buffer.Gradients[i] += gradient[i];
                    }
                }
            }
            else
            {
                // Some leave their last addend where it is, as training does, in two parts.
                var added = own.Count - random.Next(2);
                Assert.All(own[..added], gradient => Assert.True(buffer.Add([.. gradient], limit)));
                if (added == own.Count)
                {
                    continue;
                }

                own[^1].CopyTo(buffer.Gradients);
            }

            var cut = random.Next(own[0].Length + 1);
            Assert.True(buffer.AddLast(cut, own[0].Length - cut, limit) & buffer.AddLast(0, cut, limit));
        }

        if (size == 1)
        {
            buffers[0].Finish();
        }
        else
        {
            var rings = InMemoryRing.Create(size);
            await Task.WhenAll(rings.Zip(buffers, (ring, buffer) => Task.Run(async () =>
            {
                var begin = 0;
                var reduce = new RingAllReduce(ring, 301);
                ring.Late = new Random(size + ring.Rank);
                foreach (var end in cuts.Append(buffer.Length))
                {
                    await reduce.RunAsync(1, Buckets.Gradients, buffer, begin, end - begin);
                    begin = end;
                }
            }))).WaitAsync(Timeout);
        }

        return [.. buffers.Select(b => b.Gradients.ToArray().Select(BitConverter.SingleToInt32Bits).ToArray())];
    }
}
