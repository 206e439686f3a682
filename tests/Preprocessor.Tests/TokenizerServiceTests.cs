using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Preprocessor.Tests;

public sealed class TokenizerServiceTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task TextIsEncodedAndDecodedWithTheTokenizerOfADataset()
    {
        await using var host = await PreprocessorHost.StartAsync(_folder.Path);
        var tokenizer = await MakeTokenizerAsync(host);
        const string Text = "to be or not to be <|endoftext|>";
        var ids = (await host.Tokenizers.EncodeAsync(new EncodeRequest { Tokenizer = tokenizer, Text = Text }, deadline: PreprocessorHost.Deadline)).Ids;
        Assert.InRange(ids.Count, 10, Text.Length);
        var decoded = await host.Tokenizers.DecodeAsync(new DecodeRequest { Tokenizer = tokenizer, Ids = { ids } }, deadline: PreprocessorHost.Deadline);
        Assert.Equal(Text, decoded.Text);
    }

    [Fact]
    public async Task WrongRequestsAreRefused()
    {
        await using var host = await PreprocessorHost.StartAsync(_folder.Path);
        var tokenizer = await MakeTokenizerAsync(host);
        await AssertErrorAsync(Encode("tokenizers/none", "x"), StatusCode.NotFound, ErrorReasons.NotFound, "'tokenizers/none' does not exist");
        await AssertErrorAsync(Encode("../x", "x"), StatusCode.InvalidArgument, ErrorReasons.InvalidName, "tokenizers/ID");
        await AssertErrorAsync(Encode(tokenizer, new string('x', (1 << 20) + 1)), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "text has 1048577 bytes");
        await AssertErrorAsync(Decode(tokenizer, 0, -1), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "ids[1] is -1");
        await AssertErrorAsync(Decode(tokenizer, 300), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "has the ids 0 to 299");

        Func<Task> Encode(string name, string text) => async () =>
            await host.Tokenizers.EncodeAsync(new EncodeRequest { Tokenizer = name, Text = text }, deadline: PreprocessorHost.Deadline);
        Func<Task> Decode(string name, params int[] ids) => async () =>
            await host.Tokenizers.DecodeAsync(new DecodeRequest { Tokenizer = name, Ids = { ids } }, deadline: PreprocessorHost.Deadline);
    }

    [Fact]
    public async Task DamagedTokenizerIsDataLoss()
    {
        string tokenizer;
        await using (var host = await PreprocessorHost.StartAsync(_folder.Path))
        {
            tokenizer = await MakeTokenizerAsync(host);
        }

        var file = Path.Combine(_folder.Path, tokenizer, "tokenizer.json");
        File.WriteAllText(file, File.ReadAllText(file)[..^20]);
        await using var next = await PreprocessorHost.StartAsync(_folder.Path);
        await AssertErrorAsync(
            async () => await next.Tokenizers.EncodeAsync(new EncodeRequest { Tokenizer = tokenizer, Text = "x" }, deadline: PreprocessorHost.Deadline),
            StatusCode.DataLoss, ErrorReasons.CorruptData, "tokenizer.json");
    }

    [Fact]
    public async Task TokenizersAreListedAndShown()
    {
        await using var host = await PreprocessorHost.StartAsync(_folder.Path);
        Assert.Empty((await host.Tokenizers.ListTokenizersAsync(new ListTokenizersRequest(), deadline: PreprocessorHost.Deadline)).Tokenizers);
        var name = await MakeTokenizerAsync(host);
        var page = await host.Tokenizers.ListTokenizersAsync(new ListTokenizersRequest { PageSize = 1 }, deadline: PreprocessorHost.Deadline);
        var found = (await host.Tokenizers.GetTokenizerAsync(new GetTokenizerRequest { Name = name }, deadline: PreprocessorHost.Deadline)).Tokenizer;
        Assert.Equal((name, "bpe", 300, found.Hash), (page.Tokenizers.Single().Name, page.Tokenizers[0].Kind, page.Tokenizers[0].VocabularySize, page.Tokenizers[0].Hash));
        Assert.Equal("", page.NextPageToken);
        Assert.Empty((await host.Tokenizers.ListTokenizersAsync(new ListTokenizersRequest { PageToken = name }, deadline: PreprocessorHost.Deadline)).Tokenizers);
        Assert.Equal(0, found.SpecialIds["<|endoftext|>"]);
        Assert.False(found.HasUnknownId);
    }

    [Fact]
    public async Task ATokenizerIsMeasuredOnSourcesAndTextsBesideAFile()
    {
        await using var host = await PreprocessorHost.StartAsync(_folder.Path);
        var name = await MakeTokenizerAsync(host);
        var file = _folder.Write("characters/tokenizer.json", Text.CharacterTokenizer.Create(["to be or not"]).ToJson());
        var report = await host.Tokenizers.GetTokenizerReportAsync(
            new GetTokenizerReportRequest
            {
                Tokenizer = name,
                Reference = file,
                Baseline = "b",
                Texts = { new LabelledText { Label = "a", Sources = { _folder.Write("a.jsonl", "{\"text\": \"to be or\"}\n{\"text\": \"not to be\"}\n") } }, new LabelledText { Label = "b", Text = "to be" } },
            },
            deadline: PreprocessorHost.Deadline);
        Assert.Equal([("a", 17L, 6L, 17L), ("b", 5L, 2L, 5L)], report.Labels.Select(l => (l.Label, l.ByteCount, l.WordCount, l.ReferenceTokenCount)));
        Assert.Equal(3.4, report.Labels[0].ReferenceRatio, 9);
        Assert.Equal(22, report.Total.ByteCount);
        Assert.Contains("| a | 17 |", report.Markdown, StringComparison.Ordinal);
        Assert.Contains("\"baseline\": \"b\"", report.Json, StringComparison.Ordinal);
        var other = await host.Tokenizers.GetTokenizerReportAsync(
            new GetTokenizerReportRequest { Tokenizer = Path.GetDirectoryName(file), Texts = { new LabelledText { Text = "to x" } } }, deadline: PreprocessorHost.Deadline);
        Assert.Equal((0.25, "character", "text"), (other.Total.UnknownRate, other.Kind, other.Labels.Single().Label));
    }

    [Fact]
    public async Task WrongReportRequestsAreRefused()
    {
        await using var host = await PreprocessorHost.StartAsync(_folder.Path);
        var broken = _folder.Write("broken.json", "{");
        var text = new LabelledText { Label = "a", Text = "x" };
        await AssertErrorAsync(Report(new GetTokenizerReportRequest { Tokenizer = "tokenizers/none" }), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "texts has 0 entries");
        await AssertErrorAsync(Report(new GetTokenizerReportRequest { Tokenizer = "tokenizers/none", Texts = { text } }), StatusCode.NotFound, ErrorReasons.NotFound, "'tokenizers/none' does not exist");
        await AssertErrorAsync(Report(new GetTokenizerReportRequest { Tokenizer = "none.json", Texts = { text } }), StatusCode.NotFound, ErrorReasons.NotFound, "no tokenizer 'none.json'");
        await AssertErrorAsync(Report(new GetTokenizerReportRequest { Tokenizer = broken, Texts = { text } }), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "broken.json': the file is not JSON: line 1");
        await AssertErrorAsync(Report(new GetTokenizerReportRequest { Tokenizer = broken, Texts = { new LabelledText() } }), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "texts[0] needs either");
        var tokenizer = await MakeTokenizerAsync(host);
        await AssertErrorAsync(Report(new GetTokenizerReportRequest { Tokenizer = tokenizer, Texts = { text }, Baseline = "b" }), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "label 'b'");
        await AssertErrorAsync(
            Report(new GetTokenizerReportRequest { Tokenizer = tokenizer, Texts = { new LabelledText { Sources = { "/none/x.txt" } } } }), StatusCode.InvalidArgument, ErrorReasons.SourceNotFound, "/none/x.txt");

        Func<Task> Report(GetTokenizerReportRequest request) => async () => await host.Tokenizers.GetTokenizerReportAsync(request, deadline: PreprocessorHost.Deadline);
    }

    [Theory]
    [InlineData("stories260k/tokenizer.bin", "bpe", 512)]
    [InlineData("botchan/test_model.model", "unigram", 1000)]
    [InlineData("gpt2-bpe", "bpe", 50_257)]
    public async Task ATokenizerFileIsImportedByADataset(string file, string kind, int vocabularySize)
    {
        await using var host = await PreprocessorHost.StartAsync(_folder.Path);
        var text = _folder.Write("text.txt", string.Concat(Enumerable.Repeat("Once upon a time there was a cat.\n", 50)));
        var path = TestData.PathOf(file);
        var dataset = await host.CreateAsync(new DatasetSpec { Sources = { text }, Tokenizer = new TokenizerSpec { File = path } });
        Assert.Equal((kind, vocabularySize, false), (dataset.Spec.Tokenizer.Kind, dataset.Spec.Tokenizer.VocabularySize, dataset.Spec.Tokenizer.HasFile));
        var ready = (await host.WatchAsync(dataset.Name))[^1].Dataset;
        Assert.Equal(Dataset.Types.State.Ready, ready.State);
        Assert.Equal(dataset.Spec.Tokenizer.Name, ready.Tokenizer);
        var expected = Text.TokenizerFile.Load(path);
        Assert.Equal(expected.Hash, (await host.Tokenizers.GetTokenizerAsync(new GetTokenizerRequest { Name = ready.Tokenizer }, deadline: PreprocessorHost.Deadline)).Tokenizer.Hash);
        var encoded = await host.Tokenizers.EncodeAsync(new EncodeRequest { Tokenizer = ready.Tokenizer, Text = "Once upon" }, deadline: PreprocessorHost.Deadline);
        Assert.Equal(Text.TokenizerExtensions.Encode(expected, "Once upon"), encoded.Ids);
    }

    [Fact]
    public async Task ATokenizerFileThatCannotBeUsedIsRefusedBeforeADatasetIsMade()
    {
        await using var host = await PreprocessorHost.StartAsync(_folder.Path);
        var text = _folder.Write("text.txt", "text");
        var broken = _folder.Write("broken.json", "{\"model\": {\"type\": \"Other\"}}");
        await AssertErrorAsync(Create(broken), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "model.type is \"Other\"");
        await AssertErrorAsync(Create("/none/tokenizer.json"), StatusCode.NotFound, ErrorReasons.NotFound, "'/none/tokenizer.json'");

        Func<Task> Create(string file) => async () => await host.CreateAsync(new DatasetSpec { Sources = { text }, Tokenizer = new TokenizerSpec { File = file } });
    }

    [Fact]
    public async Task FilesOutsideTheSourceRootsAreNotRead()
    {
        await using var host = await PreprocessorHost.StartAsync(_folder.Path, ("Preprocessor:SourceRoots:0", Path.Combine(_folder.Path, "allowed")));
        var json = Text.CharacterTokenizer.Create(["abc"]).ToJson();
        var (inside, outside) = (_folder.Write("allowed/tokenizer.json", json), _folder.Write("tokenizer.json", json));
        var text = new LabelledText { Text = "abc" };
        Assert.Equal(3, (await ReportAsync(new GetTokenizerReportRequest { Tokenizer = inside, Texts = { text } })).Total.TokenCount);
        await AssertErrorAsync(() => ReportAsync(new GetTokenizerReportRequest { Tokenizer = outside, Texts = { text } }), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "may read");
        await AssertErrorAsync(
            () => ReportAsync(new GetTokenizerReportRequest { Tokenizer = inside, Texts = { new LabelledText { Sources = { outside } } } }), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "may not read");

        async Task<GetTokenizerReportResponse> ReportAsync(GetTokenizerReportRequest request) => await host.Tokenizers.GetTokenizerReportAsync(request, deadline: PreprocessorHost.Deadline);
    }

    [Theory]
    [InlineData("word")]
    [InlineData("wordpiece")]
    [InlineData("classic-bpe")]
    [InlineData("grapheme")]
    [InlineData("character")]
    public async Task DatasetsOfEveryKindSayWhatIsUnknown(string kind)
    {
        await using var host = await PreprocessorHost.StartAsync(_folder.Path);

        // The tail, which is the validation split, has a word of its own.
        var text = _folder.Write("text.txt", string.Concat(Enumerable.Repeat("the cat sat on the mat\n", 90)) + string.Concat(Enumerable.Repeat("the dog sat on the mat\n", 10)));
        var spec = new DatasetSpec { Sources = { text }, Tokenizer = new TokenizerSpec { Kind = kind }, Split = new SplitSpec { Method = "tail", ValidationFraction = 0.1 } };
        if (kind is "word" or "wordpiece" or "classic-bpe")
        {
            spec.Tokenizer.VocabularySize = 40;
        }

        var ready = (await host.WatchAsync((await host.CreateAsync(spec)).Name))[^1].Dataset;
        Assert.Equal(Dataset.Types.State.Ready, ready.State);
        Assert.StartsWith($"tokenizers/{kind}-", ready.Tokenizer, StringComparison.Ordinal);
        var (train, validation) = (ready.Splits.Single(s => s.Split == "train"), ready.Splits.Single(s => s.Split == "validation"));
        Assert.Equal(0, train.UnknownTokenCount);
        var (tokens, bytes) = kind switch
        {
            "word" or "wordpiece" => (10, 40), // " dog"
            "classic-bpe" or "grapheme" => (20, -1), // d, g
            _ => (0, 0), // the characters are those of all splits
        };
        Assert.Equal(tokens, validation.UnknownTokenCount);
        if (bytes >= 0)
        {
            Assert.Equal(bytes, validation.UnknownByteCount);
        }
    }

    private async Task<string> MakeTokenizerAsync(PreprocessorHost host)
    {
        var path = _folder.Write("text.txt", string.Concat(Enumerable.Range(0, 400).Select(i => $"to be or not to be, that is question {i} of {i * 7} others\n")));
        var dataset = await host.CreateAsync(new DatasetSpec { Sources = { path }, Tokenizer = new TokenizerSpec { VocabularySize = 300 } });
        return (await host.WatchAsync(dataset.Name))[^1].Dataset.Tokenizer;
    }

    private static async Task AssertErrorAsync(Func<Task> call, StatusCode code, string reason, string message)
    {
        var exception = await Assert.ThrowsAsync<RpcException>(call);
        Assert.Equal(code, exception.StatusCode);
        Assert.Contains(message, exception.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(reason, exception.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason);
    }
}
