using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;
using LlmPipeline.Storage;
using static LlmPipeline.Datasets.V1.Dataset.Types;

namespace LlmPipeline.Preprocessor.Tests;

public sealed class RestartTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(State.Reading)]
    [InlineData(State.Tokenizing)]
    public async Task DatasetThatAStoppedServiceLeftIsFinishedByTheNext(State stopAt)
    {
        var spec = WriteText();
        var store = BlobStore.Open($"folder={_folder.Path}/store");
        string name;
        await using (var first = await PreprocessorHost.StartAsync($"{_folder.Path}/store"))
        {
            name = (await first.CreateAsync(spec)).Name;
            using var watch = first.Datasets.WatchDataset(new WatchDatasetRequest { Name = name }, deadline: PreprocessorHost.Deadline);
            await WaitForAsync(watch, stopAt);
        }

        Assert.Null(await store.TryReadManifestAsync(name));
        Assert.Empty(Directory.EnumerateFiles(_folder.Path, "*.spool"));
        await using var second = await PreprocessorHost.StartAsync($"{_folder.Path}/store");
        var ready = (await second.WatchAsync(name))[^1].Dataset;
        Assert.Equal(State.Ready, ready.State);
        await AssertSameAsUndisturbedAsync(second, store, name, spec);
    }

    [Fact]
    public async Task KilledServiceFinishesItsDatasetWhenItIsBack()
    {
        var spec = WriteText();
        var store = BlobStore.Open($"folder={_folder.Path}/store");
        string name;
        await using (var process = PreprocessorProcess.Start($"{_folder.Path}/store", _folder.Path))
        {
            name = (await process.CreateAsync(spec)).Name;
            using var watch = process.Datasets.WatchDataset(new WatchDatasetRequest { Name = name }, deadline: PreprocessorHost.Deadline);
            await WaitForAsync(watch, State.Tokenizing);
        }

        await using var second = await PreprocessorHost.StartAsync($"{_folder.Path}/store");
        Assert.Equal(State.Ready, (await second.WatchAsync(name))[^1].Dataset.State);
        await AssertSameAsUndisturbedAsync(second, store, name, spec);
    }

    [Fact]
    public async Task DatasetCommittedJustBeforeAStopIsFoundAndNotMadeAgain()
    {
        var spec = new DatasetSpec { Sources = { _folder.Write("a.txt", "some text\n") }, Tokenizer = new TokenizerSpec { Kind = "character" }, Split = new SplitSpec { ValidationFraction = 0 } };
        var store = BlobStore.Open($"folder={_folder.Path}/store");
        Dataset ready;
        await using (var first = await PreprocessorHost.StartAsync($"{_folder.Path}/store"))
        {
            ready = (await first.WatchAsync((await first.CreateAsync(spec)).Name))[^1].Dataset;
        }

        // As if the process had ended between manifest and record; without the source, it cannot be made again.
        var record = $"{ready.Name}/dataset.json";
        var (json, _) = (await store.TryReadTextAsync(record))!.Value;
        await store.WriteTextAsync(record, json.Replace("STATE_READY", "STATE_TOKENIZING", StringComparison.Ordinal));
        File.Delete(Path.Combine(_folder.Path, "a.txt"));
        await using var second = await PreprocessorHost.StartAsync($"{_folder.Path}/store");
        var found = (await second.WatchAsync(ready.Name))[^1].Dataset;
        found.EndTime = ready.EndTime;
        Assert.Equal(ready, found);
    }

    private static async Task WaitForAsync(AsyncServerStreamingCall<WatchDatasetResponse> watch, State state)
    {
        while (await watch.ResponseStream.MoveNext(CancellationToken.None))
        {
            if (watch.ResponseStream.Current.Dataset.State == state)
            {
                return;
            }
        }

        Assert.Fail($"The dataset ended before it was {state}.");
    }

    private static async Task AssertSameAsUndisturbedAsync(PreprocessorHost host, IBlobStore store, string name, DatasetSpec spec)
    {
        var undisturbed = (await host.WatchAsync((await host.CreateAsync(spec, "undisturbed")).Name))[^1].Dataset;
        Assert.Equal(State.Ready, undisturbed.State);
        Assert.Equal(await FilesAsync(store, undisturbed.Name), await FilesAsync(store, name));
    }

    // The data card has the dataset's name in it.
    private static async Task<IEnumerable<DirectoryFile>> FilesAsync(IBlobStore store, string name) =>
        (await store.TryReadManifestAsync(name))!.Files.Where(f => !f.Name.StartsWith("data_card", StringComparison.Ordinal));

    // Enough for each stage to take a while.
    private DatasetSpec WriteText()
    {
        var path = Path.Combine(_folder.Path, "text.jsonl");
        var random = new Random(1);
        using (var writer = new StreamWriter(path))
        {
            for (var i = 0; i < 40_000; i++)
            {
                writer.Write($"{{\"text\":\"document {i}:");
                for (var word = 0; word < 40; word++)
                {
                    writer.Write($" word{random.Next(3000)}");
                }

                writer.Write("\"}\n");
            }
        }

        return new DatasetSpec { Sources = { path }, Tokenizer = new TokenizerSpec { Kind = "character" }, Split = new SplitSpec { ValidationFraction = 0.1 } };
    }
}
