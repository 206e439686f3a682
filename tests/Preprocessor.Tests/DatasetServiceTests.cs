using System.Text;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Text.Reports;
using static LlmPipeline.Datasets.V1.Dataset.Types;

namespace LlmPipeline.Preprocessor.Tests;

public sealed class DatasetServiceTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private string Storage => Path.Combine(_folder.Path, "store");

    [Fact]
    public async Task TextBecomesADatasetThatTrainingCanOpen()
    {
        WriteDocuments(300);
        await using var host = await PreprocessorHost.StartAsync(Storage);
        var created = await host.CreateAsync(Spec());
        Assert.Equal(State.Queued, created.State);
        Assert.StartsWith("datasets/d-", created.Name, StringComparison.Ordinal);

        var seen = await host.WatchAsync(created.Name);
        var ready = seen[^1].Dataset;
        Assert.Equal(State.Ready, ready.State);
        Assert.Null(ready.Error);
        Assert.NotNull(ready.EndTime);
        Assert.Equal(1, ready.Progress.Fraction);
        Assert.Equal(300, ready.Progress.DocumentCount);
        Assert.Equal(ready.Progress.TotalByteCount, ready.Progress.ByteCount);
        Assert.Equal(["train", "validation"], ready.Splits.Select(s => s.Split));
        Assert.True(seen.Zip(seen.Skip(1)).All(p => p.First.Sequence < p.Second.Sequence));
        Assert.True(seen.Zip(seen.Skip(1)).All(p => p.First.Dataset.Progress.Fraction <= p.Second.Dataset.Progress.Fraction));

        using var dataset = await TokenDataset.OpenAsync(BlobStore.Open($"folder={Storage}"), ready.Name).WaitAsync(PreprocessorHost.Patience);
        Assert.Equal(ready.VocabularySize, dataset.Tokenizer.VocabularySize);
        Assert.Equal(ready.Tokenizer, dataset.TokenizerName);
        Assert.Equal(ready.Splits.Select(s => s.TokenCount), [dataset.Split("train").TokenCount, dataset.Split("validation").TokenCount]);
        Assert.Equal(ready.Progress.TokenCount, ready.Splits.Sum(s => s.TokenCount));
    }

    [Fact]
    public async Task DataCardIsThereOnceADatasetIsReady()
    {
        WriteDocuments(300);
        _folder.Write("text/9999.txt", "document 7 has 49 words\n");
        var broken = _folder.Write("broken/a.txt", [0xFF]);
        await using var host = await PreprocessorHost.StartAsync(Storage);
        var spec = Spec();
        spec.Cleaning = new CleaningSpec { LetterCase = "lower", Whitespace = true, Numbers = "keep" };
        var ready = (await host.WatchAsync((await host.CreateAsync(spec)).Name))[^1].Dataset;
        var response = await host.Datasets.GetDataCardAsync(new GetDataCardRequest { Name = ready.Name }, deadline: PreprocessorHost.Deadline);
        var card = DataCard.FromJson(Encoding.UTF8.GetBytes(response.Json));
        Assert.Equal(card.ToMarkdown(), response.Markdown);
        Assert.Equal((ready.Name, ready.Tokenizer, ready.VocabularySize), (card.Dataset, card.Tokenizer, card.VocabularySize));
        Assert.Equal(ready.Splits.Select(s => (s.Split, s.DocumentCount, s.TokenCount, s.ByteCount)), card.Splits.Select(s => (s.Split, s.Documents, s.Tokens, s.Bytes)));
        Assert.Equal((301, 301, 1), (card.Cleaning.Documents, card.Cleaning.DocumentsKept, card.Duplicates.Exact));
        Assert.Equal(0, card.Leaks.Documents.ExactDuplicates);

        var failed = (await host.WatchAsync((await host.CreateAsync(new DatasetSpec { Sources = { broken } })).Name))[^1].Dataset;
        await AssertErrorAsync(
            async () => await host.Datasets.GetDataCardAsync(new GetDataCardRequest { Name = failed.Name }, deadline: PreprocessorHost.Deadline),
            StatusCode.FailedPrecondition, ErrorReasons.WrongState, "it is not READY but FAILED");

        File.AppendAllText(Path.Combine(Storage, ready.Name, DataCard.JsonFile), " ");
        await AssertErrorAsync(
            async () => await host.Datasets.GetDataCardAsync(new GetDataCardRequest { Name = ready.Name }, deadline: PreprocessorHost.Deadline),
            StatusCode.DataLoss, ErrorReasons.CorruptData, "it is not the file that the manifest names");
    }

    [Fact]
    public async Task SameSpecOverTheSameFilesIsTheSameDatasetUntilAFileChanges()
    {
        WriteDocuments(300);
        await using var host = await PreprocessorHost.StartAsync(Storage);
        var first = await host.CreateAsync(Spec());
        var ready = (await host.WatchAsync(first.Name))[^1].Dataset;
        Assert.Equal(ready, await host.CreateAsync(Spec()));

        // The resolved spec, submitted again, is the same too.
        Assert.Equal(ready, await host.CreateAsync(ready.Spec));

        File.AppendAllText(Path.Combine(_folder.Path, "text", "0007.txt"), "one more line\n");
        var changed = await host.CreateAsync(Spec());
        Assert.NotEqual(first.Name, changed.Name);
        Assert.Equal(State.Ready, (await host.WatchAsync(changed.Name))[^1].Dataset.State);
    }

    [Fact]
    public async Task ConcurrentCreatesGiveOneDataset()
    {
        WriteDocuments(50);
        await using var host = await PreprocessorHost.StartAsync(Storage);
        var created = await Task.WhenAll(Enumerable.Range(0, 16).Select(_ => host.CreateAsync(Spec())));
        var name = Assert.Single(created.Select(d => d.Name).Distinct());
        Assert.Equal(State.Ready, (await host.WatchAsync(name))[^1].Dataset.State);
        Assert.Single((await host.Datasets.ListDatasetsAsync(new ListDatasetsRequest(), deadline: PreprocessorHost.Deadline)).Datasets);
    }

    [Fact]
    public async Task IdTakenByAnotherSpecIsAlreadyExists()
    {
        WriteDocuments(50);
        await using var host = await PreprocessorHost.StartAsync(Storage);
        var mine = await host.CreateAsync(Spec(), "mine");
        Assert.Equal("datasets/mine", mine.Name);
        await host.WatchAsync(mine.Name);
        Assert.Equal(mine.Name, (await host.CreateAsync(Spec(), "mine")).Name);

        var other = Spec();
        other.Cleaning = new CleaningSpec { Whitespace = true };
        await AssertErrorAsync(() => host.CreateAsync(other, "mine"), StatusCode.AlreadyExists, ErrorReasons.AlreadyExists, "was made from another spec");

        _folder.Write("text/new.txt", "new");
        await AssertErrorAsync(() => host.CreateAsync(Spec(), "mine"), StatusCode.AlreadyExists, ErrorReasons.AlreadyExists, "before its source files changed");
    }

    [Fact]
    public async Task FailedDatasetIsMadeAgainWhenCreatedAgain()
    {
        WriteDocuments(20);
        var broken = _folder.Write("text/0010.txt", [(byte)'a', 0xFF, (byte)'b']);
        var time = File.GetLastWriteTimeUtc(broken);
        await using var host = await PreprocessorHost.StartAsync(Storage);
        var created = await host.CreateAsync(Spec());
        var failed = (await host.WatchAsync(created.Name))[^1].Dataset;
        Assert.Equal(State.Failed, failed.State);
        Assert.Equal(ErrorReasons.InvalidText, failed.Error.Reason);
        Assert.StartsWith($"'{broken}' is not UTF-8: invalid byte 0xFF at offset 1.", failed.Error.Message, StringComparison.Ordinal);

        // Same length and time, so that the dataset's id stays.
        File.WriteAllText(broken, "a b");
        File.SetLastWriteTimeUtc(broken, time);
        var retried = await host.CreateAsync(Spec());
        Assert.Equal(created.Name, retried.Name);
        var ready = (await host.WatchAsync(created.Name))[^1].Dataset;
        Assert.Equal(State.Ready, ready.State);
        Assert.Null(ready.Error);
    }

    [Fact]
    public async Task FailedDatasetWithAnIdIsMadeAgainFromMendedFiles()
    {
        var file = _folder.Write("text/a.txt", [0xFF]);
        await using var host = await PreprocessorHost.StartAsync(Storage);
        Assert.Equal(State.Failed, (await host.WatchAsync((await host.CreateAsync(Spec(), "mine")).Name))[^1].Dataset.State);
        WriteDocuments(20);
        File.WriteAllText(file, "mended\n");
        Assert.Equal("datasets/mine", (await host.CreateAsync(Spec(), "mine")).Name);
        var ready = (await host.WatchAsync("datasets/mine"))[^1].Dataset;
        Assert.Equal((State.Ready, 21L), (ready.State, ready.Progress.DocumentCount));
    }

    [Fact]
    public async Task DatasetThatLostAFileIsMadeAgainWhenCreatedAgain()
    {
        WriteDocuments(50);
        await using var host = await PreprocessorHost.StartAsync(Storage);
        var name = (await host.CreateAsync(Spec())).Name;
        var ready = (await host.WatchAsync(name))[^1].Dataset;
        var shard = Path.Combine(Storage, name, "train-00000.bin");
        var bytes = File.ReadAllBytes(shard);
        File.WriteAllBytes(shard, bytes[..^2]);
        Assert.Equal(State.Queued, (await host.CreateAsync(Spec())).State);
        var again = (await host.WatchAsync(name))[^1].Dataset;
        Assert.Equal(State.Ready, again.State);
        Assert.Equal(ready.Splits, again.Splits);
        Assert.Equal(bytes, File.ReadAllBytes(shard));
    }

    [Fact]
    public async Task SourcesThatChangeBetweenCreateAndReadingFailTheDataset()
    {
        _folder.Write("slow/a.jsonl", string.Concat(Enumerable.Range(0, 30_000).Select(i => $"{{\"text\":\"document {i} with some words\"}}\n")));
        WriteDocuments(10);
        await using var host = await PreprocessorHost.StartAsync(Storage);
        var slow = await host.CreateAsync(new DatasetSpec { Sources = { Path.Combine(_folder.Path, "slow") }, Tokenizer = new TokenizerSpec { Kind = "character" } });
        var queued = await host.CreateAsync(Spec());
        _folder.Write("text/0003.txt", "changed in the meantime");
        Assert.Equal(State.Ready, (await host.WatchAsync(slow.Name))[^1].Dataset.State);
        var failed = (await host.WatchAsync(queued.Name))[^1].Dataset;
        Assert.Equal(State.Failed, failed.State);
        Assert.Contains("changed after the dataset was created", failed.Error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ListIsPagedNewestFirst()
    {
        WriteDocuments(20);
        await using var host = await PreprocessorHost.StartAsync(Storage);
        foreach (var id in new[] { "first", "second", "third" })
        {
            await host.WatchAsync((await host.CreateAsync(Spec(), id)).Name);
        }

        var page = await host.Datasets.ListDatasetsAsync(new ListDatasetsRequest { PageSize = 2 }, deadline: PreprocessorHost.Deadline);
        Assert.Equal(["datasets/third", "datasets/second"], page.Datasets.Select(d => d.Name));
        var rest = await host.Datasets.ListDatasetsAsync(new ListDatasetsRequest { PageSize = 2, PageToken = page.NextPageToken }, deadline: PreprocessorHost.Deadline);
        Assert.Equal(["datasets/first"], rest.Datasets.Select(d => d.Name));
        Assert.Empty(rest.NextPageToken);
    }

    [Fact]
    public async Task UnknownAndMalformedNamesAreRefused()
    {
        await using var host = await PreprocessorHost.StartAsync(Storage);
        await AssertErrorAsync(() => host.WatchAsync("datasets/none"), StatusCode.NotFound, ErrorReasons.NotFound, "'datasets/none' does not exist");
        foreach (var name in new[] { "", "datasets/", "datasets/../secret", "runs/abcd", "datasets/ABCD", "datasets/a\0bc" })
        {
            await AssertErrorAsync(
                async () => await host.Datasets.GetDatasetAsync(new GetDatasetRequest { Name = name }, deadline: PreprocessorHost.Deadline),
                StatusCode.InvalidArgument, ErrorReasons.InvalidName, "is not a name of the form datasets/ID");
        }

        await AssertErrorAsync(() => host.CreateAsync(new DatasetSpec { Sources = { "/" } }, "No!"), StatusCode.InvalidArgument, ErrorReasons.InvalidName, "dataset_id");
    }

    private void WriteDocuments(int count)
    {
        for (var i = 0; i < count; i++)
        {
            _folder.Write($"text/{i:D4}.txt", $"document {i} has {i * i} words\n");
        }
    }

    private DatasetSpec Spec() => new()
    {
        Sources = { Path.Combine(_folder.Path, "text") },
        Tokenizer = new TokenizerSpec { Kind = "bpe", VocabularySize = 300 },
    };

    private static async Task AssertErrorAsync(Func<Task> call, StatusCode code, string reason, string message)
    {
        var exception = await Assert.ThrowsAsync<RpcException>(call);
        Assert.Equal(code, exception.StatusCode);
        Assert.Contains(message, exception.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(reason, exception.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason);
    }
}
