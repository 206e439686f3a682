using LlmPipeline.Fakes;
using Microsoft.Extensions.Time.Testing;

namespace LlmPipeline.Storage.Tests;

public sealed class HeldLeaseTests
{
    private readonly FakeTimeProvider _time = new();

    [Theory]
    [InlineData("fails")]
    [InlineData("silent")]
    [InlineData("gone")]
    public async Task AHolderLearnsThatItsLeaseIsNotRenewed(string how)
    {
        using var folder = new TemporaryFolder();
        var asked = 0;
        var store = new FaultyStore(BlobStore.Open($"folder={folder.Path}"))
        {
            Renewing = () =>
            {
                asked++;
                return how switch
                {
                    "fails" => Task.FromException<bool>(new IOException("The store is out of reach.")),
                    "silent" => new TaskCompletionSource<bool>().Task,
                    _ => Task.FromResult(false),
                };
            },
        };
        await using var held = await HeldLease.TryTakeAsync(store, "some", _time, TestContext.Current.CancellationToken);
        var lost = new TaskCompletionSource();
        held!.Lost.Register(lost.SetResult);

        // By then another may have it.
        for (var waited = TimeSpan.Zero; waited < HeldLease.Duration && !lost.Task.IsCompleted; waited += TimeSpan.FromSeconds(0.5))
        {
            _time.Advance(TimeSpan.FromSeconds(0.5));
            await Task.WhenAny(lost.Task, Task.Delay(TimeSpan.FromMilliseconds(50), TestContext.Current.CancellationToken));
        }

        Assert.True(lost.Task.IsCompleted);
        Assert.True(asked > 0);
    }
}
