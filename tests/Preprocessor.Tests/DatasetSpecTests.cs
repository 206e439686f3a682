using Google.Protobuf;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Preprocessor.Tests;

public sealed class DatasetSpecTests : IAsyncLifetime
{
    private readonly TemporaryFolder _folder = new();
    private PreprocessorHost _host = null!;

    public async ValueTask InitializeAsync()
    {
        _host = await PreprocessorHost.StartAsync(Path.Combine(_folder.Path, "store"));
        _folder.Write("text/a.txt", "some text to read\n");
        _folder.Write("text/b.csv", "not text");
    }

    public async ValueTask DisposeAsync()
    {
        await _host.DisposeAsync();
        _folder.Dispose();
    }

    [Theory]
    [InlineData("{}", "spec.sources is empty", null)]
    [InlineData("""{"sources":["TEXT",""]}""", "spec.sources[1] is empty", null)]
    [InlineData("""{"sources":["TEXT/none"]}""", "does not exist", ErrorReasons.SourceNotFound)]
    [InlineData("""{"sources":["TEXT/*.md"]}""", "names no file that ends in", ErrorReasons.SourceNotFound)]
    [InlineData("""{"sources":["TEXT/b.csv"]}""", "is not of a known format", ErrorReasons.SourceNotFound)]
    [InlineData("""{"sources":["TEXT"],"textField":""}""", "spec.text_field", null)]
    [InlineData("""{"sources":["TEXT"],"maxBytes":"-1"}""", "spec.max_bytes is -1", null)]
    [InlineData("""{"sources":["TEXT"],"cleaning":{"unicode":"NFC"}}""", "spec.cleaning.unicode is 'NFC'; it has to be one of none, nfc, nfkc", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"kind":"word"}}""", "spec.tokenizer.kind is 'word'; it has to be one of bpe, character", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"vocabularySize":256}}""", "spec.tokenizer.vocabulary_size is 256", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"vocabularySize":2000000}}""", "spec.tokenizer.vocabulary_size is 2000000", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"kind":"character","vocabularySize":300}}""", "spec.tokenizer.vocabulary_size is only for kind bpe", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"name":"bpe"}}""", "is not a name of the form tokenizers/ID", ErrorReasons.InvalidName)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"name":"tokenizers/none"}}""", "'tokenizers/none' does not exist", ErrorReasons.NotFound)]
    [InlineData("""{"sources":["TEXT"],"split":{"method":"random"}}""", "spec.split.method is 'random'", null)]
    [InlineData("""{"sources":["TEXT"],"split":{"validationFraction":0.6}}""", "spec.split.validation_fraction is 0.6", null)]
    [InlineData("""{"sources":["TEXT"],"split":{"testFraction":-0.1}}""", "spec.split.test_fraction is -0.1", null)]
    [InlineData("""{"sources":["TEXT"],"split":{"testFraction":"NaN"}}""", "spec.split.test_fraction is NaN", null)]
    [InlineData("""{"sources":["TEXT"],"split":{"validationFraction":0.5,"testFraction":0.5}}""", "leaves nothing to train on", null)]
    public async Task WrongFieldIsNamed(string json, string message, string? reason)
    {
        var spec = JsonParser.Default.Parse<DatasetSpec>(json.Replace("TEXT", Path.Combine(_folder.Path, "text"), StringComparison.Ordinal));
        var exception = await Assert.ThrowsAsync<RpcException>(() => _host.CreateAsync(spec));
        Assert.Contains(message, exception.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(reason ?? ErrorReasons.InvalidSpec, exception.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason);
        Assert.Equal(reason == ErrorReasons.NotFound ? StatusCode.NotFound : StatusCode.InvalidArgument, exception.StatusCode);
    }

    [Fact]
    public async Task MissingSpecIsNamed()
    {
        var exception = await Assert.ThrowsAsync<RpcException>(() => _host.CreateAsync(null!));
        Assert.StartsWith("spec is not set", exception.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task DefaultsAreFilledIn()
    {
        var folder = Path.Combine(_folder.Path, "text");
        var dataset = await _host.CreateAsync(new DatasetSpec { Sources = { Path.Combine(folder, "..", "text") } });
        Assert.Equal(new DatasetSpec
        {
            Sources = { folder },
            TextField = "text",
            Cleaning = new CleaningSpec { Unicode = "nfc", Whitespace = false },
            Tokenizer = new TokenizerSpec { Kind = "bpe", VocabularySize = 4096 },
            Split = new SplitSpec { Method = "tail", ValidationFraction = 0.05, TestFraction = 0 },
            MaxBytes = 0,
        }, dataset.Spec);
    }

    [Fact]
    public async Task ManyDocumentsAreDividedByDocument()
    {
        _folder.Write("lines/a.jsonl", "{\"text\":\"one\"}\n");
        var dataset = await _host.CreateAsync(new DatasetSpec { Sources = { Path.Combine(_folder.Path, "lines") } });
        Assert.Equal("document", dataset.Spec.Split.Method);
    }

    [Fact]
    public async Task SourcesOutsideOfTheAllowedFoldersAreRefused()
    {
        var allowed = Path.Combine(_folder.Path, "text");
        await using var host = await PreprocessorHost.StartAsync(Path.Combine(_folder.Path, "other"), ("Preprocessor:SourceRoots:0", allowed));
        Assert.NotNull(await host.CreateAsync(new DatasetSpec { Sources = { allowed } }));
        foreach (var source in new[] { _folder.Path, $"{allowed}/../other", $"{allowed}2" })
        {
            var exception = await Assert.ThrowsAsync<RpcException>(() => host.CreateAsync(new DatasetSpec { Sources = { source } }));
            Assert.Contains("not in a folder that this service may read", exception.Status.Detail, StringComparison.Ordinal);
        }
    }
}
