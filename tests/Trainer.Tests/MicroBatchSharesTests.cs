using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

public sealed class MicroBatchSharesTests
{
    [Theory]
    [InlineData(6, 3)]
    [InlineData(7, 3)]
    [InlineData(2, 4)]
    public void WithoutRebalancingSharesAreEvenAndCoverEverything(int microBatches, int size)
    {
        var shares = new MicroBatchShares(size, rebalance: false);
        shares.Begin(microBatches, new bool[size]);
        Simulate(shares, 1, 50, [.. Enumerable.Range(1, size).Select(r => (double)r * r)]);
        Assert.InRange(shares.Counts.Max() - shares.Counts.Min(), 0, 1);
        var next = 0;
        for (var rank = 0; rank < size; rank++)
        {
            var (begin, end) = shares.Of(rank);
            Assert.Equal(next, begin);
            next = end;
        }

        Assert.Equal(microBatches, next);
    }

    [Theory]
    [InlineData(6)]
    [InlineData(12)]
    [InlineData(32)]
    [InlineData(60)]
    public void OneAtATenthOfTheSpeedHoldsTheOthersUpByLessThanHalf(int microBatches)
    {
        var shares = new MicroBatchShares(3, rebalance: true);
        shares.Begin(microBatches, new bool[3]);
        double[] seconds = [0.01, 0.1, 0.01];
        Simulate(shares, 1, 10, seconds);
        var balanced = microBatches / seconds.Sum(s => 1 / s);
        var longest = Enumerable.Range(0, 3).Max(rank => shares.Counts[rank] * seconds[rank]);
        Assert.InRange(longest, 0, 1.5 * Math.Max(balanced, Math.Ceiling(microBatches / 2.0) * 0.01));
        Assert.Equal(microBatches, shares.MicroBatches);
    }

    [Fact]
    public void OneThatRecoversGetsItsShareBack()
    {
        var shares = new MicroBatchShares(3, rebalance: true);
        shares.Begin(6, new bool[3]);
        Simulate(shares, 1, 20, [0.01, 0.2, 0.01]);
        Assert.Equal([3, 0, 3], shares.Counts);
        Simulate(shares, 21, 80, [0.01, 0.01, 0.01]);
        Assert.Equal([2, 2, 2], shares.Counts);
    }

    [Fact]
    public void OneThatStaysSlowIsTriedEverMoreRarely()
    {
        var shares = new MicroBatchShares(2, rebalance: true);
        shares.Begin(4, new bool[2]);
        Simulate(shares, 1, 20, [0.01, 1]);
        var tried = new List<long>();
        for (var step = 21L; step <= 2000; step++)
        {
            if (shares.Counts[1] > 0)
            {
                tried.Add(step);
            }

            Simulate(shares, step, step, [0.01, 1]);
        }

        Assert.InRange(tried.Count, 3, 9);
        Assert.True(tried[^1] - tried[^2] >= 500);
    }

    [Fact]
    public void NoiseAndASlowFirstStepMoveNothing()
    {
        var shares = new MicroBatchShares(2, rebalance: true);
        shares.Begin(8, new bool[2]);
        shares.Observe(1, [0.5f, 0.05f]);
        var random = new Random(1);
        for (var step = 2; step < 500; step++)
        {
            shares.Observe(step, [0.01f * (0.9f + (0.2f * random.NextSingle())), step % 3 == 0 ? 0.05f : 0.01f]);
            Assert.Equal([4, 4], shares.Counts);
        }
    }

    [Fact]
    public void OneWhoseStateIsArrivingGetsNothingAndItsShareAtOnceWhenItIsThere()
    {
        var shares = new MicroBatchShares(3, rebalance: true);
        shares.Begin(6, [false, true, false]);
        Assert.Equal([3, 0, 3], shares.Counts);
        for (var step = 1; step < 100; step++)
        {
            shares.Observe(step, [0.01f, MicroBatchShares.Arriving, 0.01f]);
            Assert.Equal([3, 0, 3], shares.Counts);
        }

        shares.Observe(100, [0.01f, 0, 0.01f]);
        Assert.Equal([2, 2, 2], shares.Counts);
    }

    private static void Simulate(MicroBatchShares shares, long first, long last, double[] seconds)
    {
        for (var step = first; step <= last; step++)
        {
            shares.Observe(step, [.. seconds.Select((s, rank) => shares.Counts[rank] > 0 ? (float)s : 0)]);
        }
    }
}
