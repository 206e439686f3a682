using LlmPipeline.Datasets.V1;

namespace LlmPipeline.Cli.Tests;

public sealed class DatasetCommandTests : IAsyncLifetime
{
    private readonly CliCall _cli = new();
    private FakeGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await FakeGateway.StartAsync();

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _cli.Dispose();
    }

    [Fact]
    public async Task CreateSendsTheMixtureOfTheFile()
    {
        Directory.CreateDirectory(Path.Combine(_cli.Directory, "books"));
        Directory.CreateDirectory(Path.Combine(_cli.Directory, "news"));
        var file = _cli.Write("texts.yaml", "mixture:\n  - sources: [books]\n    weight: 3\n  - sources: [news]\nmax_tokens: 1000\n");

        Assert.Equal(0, await _cli.RunAsync(_gateway, "datasets", "create", file, "--set", "tokenizer.kind=character", "--dataset-id", "two-kinds"));
        var request = (CreateDatasetRequest)Assert.Single(_gateway.Requests);
        Assert.Equal("two-kinds", request.DatasetId);
        Assert.Equal(Path.Combine(_cli.Directory, "books"), Assert.Single(request.Spec.Mixture[0].Sources));
        Assert.Equal((3.0, false, 1000L, "character"), (request.Spec.Mixture[0].Weight, request.Spec.Mixture[1].HasWeight, request.Spec.MaxTokens, request.Spec.Tokenizer.Kind));
        Assert.Equal("datasets/two-kinds is QUEUED. Watch it with 'llmpipe datasets watch datasets/two-kinds'.\n", _cli.Output);
    }

    [Fact]
    public async Task NothingIsSentWhenTheFileIsWrong()
    {
        Assert.Equal(2, await _cli.RunAsync(_gateway, "datasets", "create", _cli.Write("texts.yaml", "mixtur:\n  - sources: [books]\n")));
        Assert.StartsWith("error: texts.yaml:1:1: unknown key 'mixtur'", _cli.Error, StringComparison.Ordinal);
        Assert.Empty(_gateway.Requests);
    }

    [Theory]
    [InlineData(Dataset.Types.State.Ready, 0, "datasets/texts READY: 1,234 train tokens, tokenizers/t1\n")]
    [InlineData(Dataset.Types.State.Failed, 1, "datasets/texts FAILED: There is no text. (SOURCE_EMPTY)\n")]
    public async Task WatchShowsTheWayAndEndsAsTheDatasetDoes(Dataset.Types.State end, int exitCode, string lastLine)
    {
        _gateway.Datasets.Add(new Dataset { Name = "datasets/texts", State = Dataset.Types.State.Reading, Progress = new DatasetProgress { Fraction = 0.25, RemainingSeconds = 12 } });
        var last = new Dataset { Name = "datasets/texts", State = end, Progress = new DatasetProgress { Fraction = 1 }, Tokenizer = "tokenizers/t1" };
        last.Splits.Add(new SplitStatistics { Split = "train", TokenCount = 1234 });
        last.Error = end == Dataset.Types.State.Failed ? new DatasetError { Reason = "SOURCE_EMPTY", Message = "There is no text." } : null;
        _gateway.Datasets.Add(last);

        Assert.Equal(exitCode, await _cli.RunAsync(_gateway, "datasets", "watch", "texts"));
        Assert.Equal("datasets/texts READING 25 %, 12 s left\n" + lastLine, _cli.Output);
    }

    [Fact]
    public async Task CancelNamesTheDataset()
    {
        Assert.Equal(0, await _cli.RunAsync(_gateway, "datasets", "cancel", "texts"));
        Assert.Equal("datasets/texts", ((CancelDatasetRequest)Assert.Single(_gateway.Requests)).Name);
        Assert.Equal("datasets/texts is CANCELLED.\n", _cli.Output);
    }
}
