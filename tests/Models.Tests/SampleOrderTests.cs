namespace LlmPipeline.Models.Tests;

public sealed class SampleOrderTests
{
    public static TheoryData<long, int> Streams => new() { { 9, 8 }, { 17, 8 }, { 24, 8 }, { 25, 8 }, { 1000, 8 }, { 1001, 7 }, { 4096, 1 }, { 12345, 100 }, { 65536 + 3, 4 } };

    [Theory]
    [MemberData(nameof(Streams))]
    public void AnEpochVisitsEveryWindowOnce(long tokens, int context)
    {
        for (var seed = 0; seed < 4; seed++)
        {
            var order = new SampleOrder(tokens, context, seed);
            for (var epoch = 0; epoch < 3; epoch++)
            {
                var first = epoch * order.SamplesPerEpoch;
                var positions = Enumerable.Range(0, (int)order.SamplesPerEpoch).Select(i => order.PositionOf(first + i)).ToArray();
                Assert.All(positions, p => Assert.InRange(p, 0, tokens - context - 1));
                Assert.Equal(positions.Length, positions.Distinct().Count());
                Assert.Single(positions.Select(p => p % context).Distinct());
            }
        }
    }

    [Fact]
    public void AlmostTheWholeStreamIsVisited()
    {
        var order = new SampleOrder(10_000, 100, 3);
        Assert.InRange(order.SamplesPerEpoch * 100, 10_000 - 200, 9_999);
    }

    [Fact]
    public void EpochsShiftTheirWindowsAndReorderThem()
    {
        var order = new SampleOrder(100_000, 64, 5);
        var epochs = Enumerable.Range(0, 40).Select(e => Enumerable.Range(0, 50).Select(i => order.PositionOf((e * order.SamplesPerEpoch) + i)).ToArray()).ToArray();
        Assert.True(epochs.Select(e => e[0] % 64).Distinct().Count() > 15);
        Assert.Equal(40, epochs.Select(e => string.Join(' ', e.Select(p => p / 64))).Distinct().Count());
        Assert.NotEqual(epochs[0], Enumerable.Range(0, 50).Select(i => new SampleOrder(100_000, 64, 6).PositionOf(i)));
    }

    // Neighbours in order must not be neighbours in the text: chi-square over 16 x 16 cells of (place of i, place of i + 1).
    [Fact]
    public void TheOrderLooksRandom()
    {
        var order = new SampleOrder((1 << 16) * 4L, 4, 9);
        var places = Enumerable.Range(0, (int)order.SamplesPerEpoch).Select(i => order.PositionOf(i) / 4 * 16 / (order.SamplesPerEpoch + 1)).ToArray();
        var cells = new int[256];
        for (var i = 0; i + 1 < places.Length; i++)
        {
            cells[(16 * places[i]) + places[i + 1]]++;
        }

        var expected = (places.Length - 1) / 256.0;
        var chiSquare = cells.Sum(c => (c - expected) * (c - expected) / expected);
        Assert.InRange(chiSquare, 150, 380);
    }

    [Fact]
    public void AnyPositionIsASeek()
    {
        var order = new SampleOrder(3_000_000_000_000, 1024, 11);
        Assert.Equal(order.PositionOf(4_000_000_000_000), order.PositionOf(4_000_000_000_000));
        Assert.InRange(order.PositionOf(long.MaxValue), 0, 3_000_000_000_000 - 1025);
    }

    [Fact]
    public void AStreamShorterThanASampleIsRefused()
    {
        var error = Assert.Throws<ArgumentException>(() => new SampleOrder(8, 8, 1));
        Assert.Contains("8 ids", error.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => new SampleOrder(8, 0, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new SampleOrder(80, 8, 1).PositionOf(-1));
    }

    [Fact]
    public void SeedsAreThoseOfTheDocumentedFunction()
    {
        // SplitMix64's published first outputs for state 0, and 1234567.
        Assert.Equal(0xE220A8397B1DCDAFUL, Seeds.Mix(0));
        Assert.Equal(6457827717110365317UL, Seeds.Mix(1234567));
        var h = Seeds.Mix(Seeds.Mix(Seeds.Mix(Seeds.Mix(7) ^ 0xAF63DC4C8601EC8C) ^ 3) ^ 4); // FNV-1a of "a"
        Assert.Equal(h, Seeds.Derive(7, "a", 3, 4));
    }

    [Fact]
    public void SeedsDifferInEveryArgument()
    {
        var seeds = new HashSet<ulong>();
        for (var i = 0; i < 20; i++)
        {
            for (var j = 0; j < 20; j++)
            {
                Assert.True(seeds.Add(Seeds.Derive(i, "a", j)));
                Assert.True(seeds.Add(Seeds.Derive(i, "a", -1, j)));
                Assert.True(seeds.Add(Seeds.Derive(i, "b", j)));
            }
        }
    }
}
