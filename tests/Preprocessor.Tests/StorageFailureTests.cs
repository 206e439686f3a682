using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;
using LlmPipeline.Storage;
using static LlmPipeline.Datasets.V1.Dataset.Types;

namespace LlmPipeline.Preprocessor.Tests;

/// <summary>Storage that does not take a write.</summary>
public sealed class StorageFailureTests : IDisposable
{
    private const string Name = "datasets/mine";

    private readonly TemporaryFolder _folder = new();
    private readonly FaultyStore _store;

    public StorageFailureTests() => _store = new FaultyStore(new FolderBlobStore(Storage));

    public void Dispose() => _folder.Dispose();

    private string Storage => Path.Combine(_folder.Path, "store");

    [Fact]
    public async Task ProgressThatCannotBeWrittenDoesNotFailTheDataset()
    {
        var committing = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var failed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _store.Committing = async name =>
        {
            if (name == $"{Name}/manifest.json")
            {
                committing.TrySetResult();
                await failed.Task.WaitAsync(PreprocessorHost.Patience);
            }
            else if (name == $"{Name}/dataset.json" && committing.Task.IsCompleted && failed.TrySetResult())
            {
                throw new IOException("The disk is full.");
            }
        };
        await using var host = await PreprocessorHost.StartAsync(Storage, _store);
        await host.CreateAsync(Spec(), "mine");
        var ready = (await host.WatchAsync(Name))[^1].Dataset;
        Assert.Equal((State.Ready, null), (ready.State, ready.Error));
        Assert.True(failed.Task.IsCompleted);
    }

    [Fact]
    public async Task ADatasetThatCouldNotBeListedIsMadeWhenItIsCreatedAgain()
    {
        var failures = 1;
        _store.Committing = name => name == "unfinished/mine" && Interlocked.Decrement(ref failures) == 0
            ? throw new IOException("The disk is full.")
            : Task.CompletedTask;
        await using var host = await PreprocessorHost.StartAsync(Storage, _store);
        var spec = Spec();
        await Assert.ThrowsAsync<RpcException>(() => host.CreateAsync(spec, "mine"));
        Assert.Equal(State.Queued, (await host.CreateAsync(spec, "mine")).State);
        Assert.Equal(State.Ready, (await host.WatchAsync(Name))[^1].Dataset.State);
    }

    private DatasetSpec Spec() => new()
    {
        Sources = { _folder.Write("text.txt", string.Concat(Enumerable.Range(0, 100).Select(i => $"line {i}\n"))) },
        Tokenizer = new TokenizerSpec { Kind = "character" },
    };
}
