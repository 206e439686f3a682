using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Tests;

public sealed class RingAllReduceTests
{
    private const int Slots = 9;
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(30);

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(5)]
    [InlineData(1000)]
    public async Task AnyNumberOfRanksAndAnyDealGiveTheSameBits(int length)
    {
        var random = new Random(length);
        const int MicroBatches = 7;
        var gradients = Enumerable.Range(0, MicroBatches).Select(_ => Enumerable.Range(0, length)
            .Select(_ => (float)((random.NextDouble() - 0.5) * Math.Pow(2, random.Next(-40, 4)))).ToArray()).ToArray();
        var expected = await SumAsync(1, gradients, _ => 0);
        for (var size = 2; size <= 5; size++)
        {
            for (var deal = 0; deal < 4; deal++)
            {
                var owner = Enumerable.Range(0, MicroBatches).Select(_ => random.Next(size)).ToArray();
                foreach (var result in await SumAsync(size, gradients, m => owner[m]))
                {
                    Assert.Equal(expected[0], result);
                }
            }
        }

        var largest = gradients.SelectMany(g => g).Select(Math.Abs).DefaultIfEmpty().Max();
        for (var i = 0; i < length; i++)
        {
            var exact = gradients.Sum(g => (double)g[i]);
            Assert.Equal(exact, BitConverter.Int32BitsToSingle(expected[0][i]), (MicroBatches * Math.Pow(2, -45)) + (largest * 1e-7) + (Math.Abs(exact) * 1e-6));
        }
    }

    [Theory]
    [InlineData(1, 3 * 4096)]
    [InlineData(1, 50_001)]
    [InlineData(2, 50_001)]
    [InlineData(3, 9 * 4096)]
    [InlineData(3, 50_001)]
    public async Task TheNormOfTheSumIsThatOfOnePassOverIt(int size, int length)
    {
        var random = new Random(length);
        var buffers = Enumerable.Range(0, size).Select(_ => new ExchangeBuffer(length, Slots)).ToArray();
        for (var step = 0; step < 2; step++)
        {
            foreach (var buffer in buffers)
            {
                buffer.Clear();
                buffer.Add([.. Enumerable.Range(0, length).Select(_ => random.NextSingle() - 0.5f)], 1000);
            }

            if (size == 1)
            {
                buffers[0].Finish();
            }
            else
            {
                await RunAsync(InMemoryRing.Create(size), buffers, 5000);
            }

            Assert.All(buffers, buffer => Assert.Equal(Optimizers.GradientNorm.Compute(buffer.Gradients), buffer.Norm()));
        }
    }

    [Fact]
    public async Task SlotsCarryRawBits()
    {
        var rings = InMemoryRing.Create(3);
        var buffers = rings.Select(_ => new ExchangeBuffer(10, Slots)).ToArray();
        buffers[1].Set(0, float.NaN);
        buffers[2].Set(1, -1.5f);
        buffers[0].Set(2, Math.PI);
        buffers[1].AddCount(4, 1);
        buffers[2].AddCount(4, 1);
        buffers[2].Set(5, double.NegativeInfinity);
        await RunAsync(rings, buffers, 64);
        foreach (var buffer in buffers)
        {
            Assert.True(float.IsNaN(buffer.Single(0)));
            Assert.Equal(-1.5f, buffer.Single(1));
            Assert.Equal(Math.PI, buffer.Double(2));
            Assert.Equal(2, buffer.Count(4));
            Assert.Equal(double.NegativeInfinity, buffer.Double(5));
            Assert.Equal(0, buffer.Count(7));
        }
    }

    [Fact]
    public async Task ABreakAtAnyChunkFailsEveryRankThatIsNotDone()
    {
        for (var chunk = 1; chunk <= 12; chunk++)
        {
            var rings = InMemoryRing.Create(3);
            rings[1].BreakAtChunk = chunk;
            var buffers = rings.Select(_ => new ExchangeBuffer(300, Slots)).ToArray();
            var runs = rings.Zip(buffers, (ring, buffer) => new RingAllReduce(ring, 32).RunAsync(1, Buckets.Gradients, buffer)).ToArray();
            await Task.WhenAll(runs).ContinueWith(_ => { }, TaskScheduler.Default).WaitAsync(Timeout);
            Assert.IsType<RingBrokenException>(runs[1].Exception!.InnerException);
            Assert.All(runs, run => Assert.True(run.IsCompleted));
        }
    }

    /// <summary>Results of all ranks, as bits.</summary>
    private static async Task<int[][]> SumAsync(int size, float[][] gradients, Func<int, int> owner)
    {
        var buffers = Enumerable.Range(0, size).Select(_ => new ExchangeBuffer(gradients[0].Length, Slots)).ToArray();
        for (var m = 0; m < gradients.Length; m++)
        {
            Assert.True(buffers[owner(m)].Add(gradients[m].ToArray(), FixedPoint.LimitFor(gradients.Length)));
        }

        if (size == 1)
        {
            buffers[0].Finish();
        }
        else
        {
            await RunAsync(InMemoryRing.Create(size), buffers, 37);
        }

        return [.. buffers.Select(b => b.Gradients.ToArray().Select(BitConverter.SingleToInt32Bits).ToArray())];
    }

    private static Task RunAsync(InMemoryRing[] rings, ExchangeBuffer[] buffers, int chunk) =>
        Task.WhenAll(rings.Zip(buffers, (ring, buffer) => new RingAllReduce(ring, chunk).RunAsync(1, Buckets.Gradients, buffer))).WaitAsync(Timeout);
}
