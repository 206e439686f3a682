using LlmPipeline.Fakes;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

public sealed class CheckpointStoreTests
{
    [Theory]
    [InlineData("rights")]
    [InlineData("request")]
    [InlineData("disk")]
    public async Task ACheckpointCountsWhereAnOlderOneCannotBeRemoved(string cause)
    {
        Exception failure = cause switch
        {
            "rights" => new UnauthorizedAccessException("No rights."),
            "request" => new Azure.RequestFailedException(403, "No rights."),
            _ => new IOException("Read-only."),
        };
        using var folder = new TemporaryFolder();
        var removals = 0;
        var store = new FaultyStore(new FolderBlobStore(folder.Path))
        {
            Deleting = _ =>
            {
                Interlocked.Increment(ref removals);
                return Task.FromException(failure);
            },
        };
        using var harness = new LoopHarness(TinyRun.Spec(s => s.Training.KeepCheckpoints = 1), 1) { Checkpoints = new CheckpointStore(store, "{}") };
        Assert.Equal([LoopOutcome.Finished], await harness.RunAsync());
        Assert.True(removals > 0);
        Assert.Equal(["runs/tiny/checkpoints/00000004", "runs/tiny/checkpoints/00000008", "runs/tiny/checkpoints/00000012"], harness.Sink.Checkpoints.Select(c => c.Name));
    }
}
