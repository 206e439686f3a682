using LlmPipeline.Text.Building;

namespace LlmPipeline.Text.Tests.Building;

public sealed class OrderedParallelTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    [Fact]
    public async Task ResultsKeepTheOrderOfTheirItems()
    {
        var results = await Enumerable.Range(0, 1000).ToAsyncEnumerable()
            .SelectOrdered(i => { Thread.SpinWait((1000 - i) * 10); return i; }, 8).ToListAsync().AsTask().WaitAsync(Patience);
        Assert.Equal(Enumerable.Range(0, 1000), results);
    }

    [Fact]
    public async Task SourceIsReadOnlyAFewItemsAhead()
    {
        var read = 0;
        await using var results = Enumerable.Range(0, 1000).Select(i => { Interlocked.Increment(ref read); return i; }).ToAsyncEnumerable()
            .SelectOrdered(i => i, 3).GetAsyncEnumerator();
        Assert.True(await results.MoveNextAsync().AsTask().WaitAsync(Patience));
        Assert.InRange(Volatile.Read(ref read), 1, 10);
    }

    [Fact]
    public async Task ErrorOfAnItemComesAfterTheResultsBeforeIt()
    {
        var seen = new List<int>();
        var exception = await Assert.ThrowsAsync<InvalidDataException>(async () =>
        {
            await foreach (var i in Enumerable.Range(0, 100).ToAsyncEnumerable().SelectOrdered(i => i == 50 ? throw new InvalidDataException("50") : i, 4))
            {
                seen.Add(i);
            }
        }).WaitAsync(Patience);
        Assert.Equal("50", exception.Message);
        Assert.Equal(Enumerable.Range(0, 50), seen);
    }

    [Fact]
    public async Task ErrorOfTheSourceAndCancellationReachTheReader()
    {
        await Assert.ThrowsAsync<InvalidDataException>(() => Broken().ToAsyncEnumerable().SelectOrdered(i => i, 4).ToListAsync().AsTask()).WaitAsync(Patience);
        using var cancel = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var i in Enumerable.Range(0, int.MaxValue).ToAsyncEnumerable().SelectOrdered(i => i, 4, cancel.Token))
            {
                if (i == 10)
                {
                    await cancel.CancelAsync();
                }
            }
        }).WaitAsync(Patience);

        static IEnumerable<int> Broken()
        {
            yield return 1;
            throw new InvalidDataException();
        }
    }
}
