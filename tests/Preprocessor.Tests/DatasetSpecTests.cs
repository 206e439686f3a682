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
        _folder.Write("text/b.pdf", "not text");
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
    [InlineData("""{"sources":["TEXT/b.pdf"]}""", "is not of a known format", ErrorReasons.SourceNotFound)]
    [InlineData("""{"sources":["TEXT"],"textField":""}""", "spec.text_field", null)]
    [InlineData("""{"sources":["TEXT"],"maxBytes":"-1"}""", "spec.max_bytes is -1", null)]
    [InlineData("""{"sources":["TEXT"],"cleaning":{"unicode":"NFC"}}""", "spec.cleaning.unicode is 'NFC'; it has to be one of none, nfc, nfkc", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"kind":"letters"}}""", "spec.tokenizer.kind is 'letters'; it has to be one of bpe, word, character, grapheme, wordpiece, classic-bpe", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"vocabularySize":256}}""", "spec.tokenizer.vocabulary_size is 256", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"vocabularySize":2000000}}""", "spec.tokenizer.vocabulary_size is 2000000", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"kind":"character","vocabularySize":300}}""", "spec.tokenizer.vocabulary_size is not for kind character", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"specialTokens":["<|user|>"],"vocabularySize":257}}""", "spec.tokenizer.vocabulary_size is 257; it has to be from 258", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"specialTokens":["<|user|>","<|user|>"]}}""", "spec.tokenizer.special_tokens[1] names '<|user|>' again", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"specialTokens":["<|endoftext|>"]}}""", "spec.tokenizer.special_tokens[0]", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"pattern":"("}}""", "spec.tokenizer.pattern cannot be used", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"kind":"character","pattern":"gpt2"}}""", "spec.tokenizer.pattern is only for kind bpe", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"minFrequency":"2"}}""", "spec.tokenizer.min_frequency is not for kind bpe", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"balance":1.5}}""", "spec.tokenizer.balance is 1.5; it has to be from 0 to 1", null)]
    [InlineData("""{"sources":["TEXT"],"tokenizer":{"name":"tokenizers/some","balance":1}}""", "spec.tokenizer.balance is for a tokenizer that is trained", null)]
    [InlineData("""{"sources":["TEXT"],"order":"random"}""", "spec.order is 'random'; it has to be one of source, shuffled, length", null)]
    [InlineData("""{"sources":["TEXT"],"onInvalid":"ignore"}""", "spec.on_invalid is 'ignore'; it has to be one of fail, skip", null)]
    [InlineData("""{"sources":["TEXT"],"maxTokens":"-5"}""", "spec.max_tokens is -5", null)]
    [InlineData("""{"sources":["TEXT"],"mixture":[{"sources":["TEXT"]}]}""", "spec.sources cannot be set together with spec.mixture", null)]
    [InlineData("""{"mixture":[{"sources":["TEXT"]},{}]}""", "spec.mixture[1].sources is empty", null)]
    [InlineData("""{"mixture":[{"sources":["TEXT"],"weight":0}]}""", "spec.mixture[0].weight is 0; it has to be from 1E-06 to 1000000", null)]
    [InlineData("""{"mixture":[{"sources":["TEXT"],"label":"en"},{"sources":["TEXT/a.txt"],"label":"en"}]}""", "spec.mixture[1].label is 'en', as that of an earlier part", null)]
    [InlineData("""{"sources":["TEXT"],"cleaning":{"markup":"html"}}""", "spec.cleaning.markup is 'html'; it has to be one of keep, strip", null)]
    [InlineData("""{"sources":["TEXT"],"cleaning":{"numbers":"none"}}""", "spec.cleaning.numbers is 'none'; it has to be one of keep, zero, remove", null)]
    [InlineData("""{"sources":["TEXT"],"cleaning":{"quality":{"minCharacters":"9","maxCharacters":"5"}}}""", "spec.cleaning.quality.max_characters is 5, less than min_characters (9)", null)]
    [InlineData("""{"sources":["TEXT"],"cleaning":{"quality":{"maxSymbolRatio":2}}}""", "spec.cleaning.quality.max_symbol_ratio is 2; it has to be from 0 to 1", null)]
    [InlineData("""{"sources":["TEXT"],"cleaning":{"duplicates":{"near":"yes"}}}""", "spec.cleaning.duplicates.near is 'yes'; it has to be one of off, keep, remove", null)]
    [InlineData("""{"sources":["TEXT"],"cleaning":{"duplicates":{"threshold":0.2}}}""", "spec.cleaning.duplicates.threshold is 0.2; it has to be from 0.5 to 1", null)]
    [InlineData("""{"sources":["TEXT"],"cleaning":{"personalData":{"action":"find","kinds":["name"]}}}""", "spec.cleaning.personal_data.kinds[0] is 'name'; it has to be one of email, phone, ip", null)]
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
            Cleaning = new CleaningSpec
            {
                Unicode = "nfc",
                Whitespace = false,
                Markup = "keep",
                LetterCase = "keep",
                Punctuation = "keep",
                Numbers = "keep",
                Quality = new QualitySpec { MinCharacters = 0, MaxCharacters = 0, MaxSymbolRatio = 0, MaxRepeatedLineRatio = 0, MaxRepeatedNgramRatio = 0 },
                Duplicates = new DuplicateSpec { Exact = true, Near = "off", Threshold = 0.8, MemoryMib = 128 },
                PersonalData = new PersonalDataSpec { Action = "off" },
            },
            Tokenizer = new TokenizerSpec { Kind = "bpe", VocabularySize = 4096, Pattern = "default", Balance = 1 },
            Split = new SplitSpec { Method = "tail", ValidationFraction = 0.05, TestFraction = 0 },
            MaxBytes = 0,
            Order = "source",
            MaxTokens = 0,
            OnInvalid = "fail",
            Documents = "file",
        }, dataset.Spec);
    }

    [Theory]
    [InlineData("{}", "shuffled", false)]
    [InlineData("""{"maxTokens":"10"}""", "shuffled", true)]
    [InlineData("""{"order":"length"}""", "length", false)]
    public async Task AMixtureIsResolvedAndGivesItselfAgain(string json, string order, bool weighted)
    {
        var folder = Path.Combine(_folder.Path, "text");
        var spec = JsonParser.Default.Parse<DatasetSpec>(json);
        spec.Mixture.Add(new MixtureSpec { Sources = { folder } });
        spec.Mixture.Add(new MixtureSpec { Sources = { Path.Combine(folder, "a.txt") }, Label = "again" });
        var dataset = await _host.CreateAsync(spec);
        Assert.Equal((order, folder, "again"), (dataset.Spec.Order, dataset.Spec.Mixture[0].Label, dataset.Spec.Mixture[1].Label));
        Assert.All(dataset.Spec.Mixture, p => Assert.Equal((weighted, weighted ? 1 : 0), (p.HasWeight, p.Weight)));
        var again = await _host.CreateAsync(dataset.Spec);
        Assert.Equal((dataset.Name, dataset.Spec), (again.Name, again.Spec));
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
