using System.Text.Json.Nodes;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli.Tests;

public sealed class TokenizersCommandTests : IDisposable
{
    private readonly CliCall _call = new();

    public void Dispose() => _call.Dispose();

    [Fact]
    public async Task TokenizersAreListed()
    {
        await using var gateway = await FakeGateway.StartAsync();
        Assert.Equal(ExitCodes.Succeeded, await _call.RunAsync(gateway, "tokenizers", "list"));
        Assert.Contains("tokenizers/word-8000-1  word  8,000", _call.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ATokenizerIsShownWithTheTokensOfAText()
    {
        await using var gateway = await FakeGateway.StartAsync();
        Assert.Equal(ExitCodes.Succeeded, await _call.RunAsync(gateway, "tokenizers", "show", "word-8000-1", "--text", "a\n"));
        Assert.Contains("<unk>          1", _call.Output, StringComparison.Ordinal);
        Assert.Contains("5   \"a\"", _call.Output, StringComparison.Ordinal);
        Assert.Contains("7   \"\\n\"", _call.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ATokenizerThatDoesNotExistIsBadInput()
    {
        await using var gateway = await FakeGateway.StartAsync();
        Assert.Equal(ExitCodes.BadInput, await _call.RunAsync(gateway, "tokenizers", "show", "none"));
        Assert.Contains("'tokenizers/none' does not exist", _call.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AReportIsAskedForWithLabelsAndPathsOfThisMachine()
    {
        await using var gateway = await FakeGateway.StartAsync();
        _call.Write("eng.txt", "text");
        _call.Write("tokenizer.json", "{}");
        Assert.Equal(ExitCodes.Succeeded, await _call.RunAsync(gateway, "tokenizers", "report", "word-8000-1", "eng=eng.txt", "eng.txt", "--baseline", "eng", "--reference", "tokenizer.json"));
        Assert.Equal("# Report\n", _call.Output);
        var request = Assert.IsType<GetTokenizerReportRequest>(Assert.Single(gateway.Requests));
        var path = Path.Combine(_call.Directory, "eng.txt");
        Assert.Equal(("tokenizers/word-8000-1", Path.Combine(_call.Directory, "tokenizer.json"), "eng"), (request.Tokenizer, request.Reference, request.Baseline));
        Assert.Equal([("eng", path), ("eng.txt", path)], request.Texts.Select(t => (t.Label, t.Sources.Single())));
    }

    [Fact]
    public async Task AReportGoesToAFileAsMarkdownOrJson()
    {
        await using var gateway = await FakeGateway.StartAsync();
        _call.Write("eng.txt", "text");
        Assert.Equal(ExitCodes.Succeeded, await _call.RunAsync(gateway, "tokenizers", "report", "word-8000-1", "eng.txt", "--output", "report.md"));
        Assert.Equal(ExitCodes.Succeeded, await _call.RunAsync(gateway, "tokenizers", "report", "word-8000-1", "eng.txt", "--output", "report.json"));
        Assert.Equal("# Report\n", File.ReadAllText(Path.Combine(_call.Directory, "report.md")));
        Assert.Equal("{}\n", File.ReadAllText(Path.Combine(_call.Directory, "report.json")));
        Assert.Equal(ExitCodes.BadInput, await _call.RunAsync(gateway, "tokenizers", "report", "word-8000-1", "eng.txt", "--output", "none/report.md"));
        Assert.Contains("--output none/report.md: cannot be written", _call.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ASourceThatDoesNotExistIsBadInput()
    {
        Assert.Equal(ExitCodes.BadInput, await _call.RunAsync(null, "tokenizers", "report", "word-8000-1", "eng=none.txt"));
        Assert.Contains("the source 'none.txt' does not exist", _call.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TheComparisonTrainsTheSameSpecOnEachKindAndChargesUnknownText()
    {
        await using var gateway = await FakeGateway.StartAsync();
        Prepare(gateway, "word", bitsPerByte: 1.5, tokens: 1000, unknown: 50, unknownBytes: 250);
        Prepare(gateway, "bpe", bitsPerByte: 2.0, tokens: 2000, unknown: 0, unknownBytes: 0);
        Assert.Equal(ExitCodes.Succeeded, await _call.RunAsync(gateway, "tokenizers", "compare", RunFile(), "--kinds", "word,bpe", "--run-id", "cmp", "--output", "comparison.json"));
        var requests = gateway.Requests.OfType<CreateRunRequest>().ToList();
        Assert.Equal(["cmp-word", "cmp-bpe"], requests.Select(r => r.RunId));
        Assert.Equal(["word", "bpe"], requests.Select(r => r.Spec.Dataset.Tokenizer.Kind));
        requests[0].Spec.Dataset.Tokenizer.Kind = "bpe";
        Assert.Equal(requests[1].Spec, requests[0].Spec);

        var entries = JsonNode.Parse(File.ReadAllText(Path.Combine(_call.Directory, "comparison.json")))!["tokenizers"]!.AsArray();
        Assert.Equal(0.05, entries[0]!["oov_rate"]!.GetValue<double>());
        Assert.Equal(1.5 + (8 * 250 / 5000.0), entries[0]!["bits_per_byte_charged"]!.GetValue<double>(), 12);
        Assert.Equal(2.0, entries[1]!["bits_per_byte_charged"]!.GetValue<double>());
        Assert.StartsWith(" there was", entries[1]!["sample"]!.GetValue<string>(), StringComparison.Ordinal);

        Assert.Equal(ExitCodes.Succeeded, await _call.RunAsync(gateway, "tokenizers", "compare", RunFile(), "--kinds", "word,bpe", "--run-id", "cmp"));
        Assert.Contains("| word | 8,000 | 5.000 | 5.00 % | 1.5000 | 1.9000 |", _call.Output, StringComparison.Ordinal);
        Assert.Contains("### bpe\n\n    The there was", _call.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AKindThatFailedIsNamedAndTheOthersAreShown()
    {
        await using var gateway = await FakeGateway.StartAsync();
        Prepare(gateway, "bpe", bitsPerByte: 2.0, tokens: 2000, unknown: 0, unknownBytes: 0);
        gateway.Outcomes["runs/cmp-word"] = new Run { Name = "runs/cmp-word", State = Run.Types.State.Failed, Error = new RunError { Reason = "X", Message = "too small" } };
        Assert.Equal(ExitCodes.Failed, await _call.RunAsync(gateway, "tokenizers", "compare", RunFile(), "--kinds", "word,bpe", "--run-id", "cmp"));
        Assert.Contains("runs/cmp-word (Failed: too small)", _call.Output, StringComparison.Ordinal);
        Assert.Contains("| bpe | 8,000 | 2.500 |", _call.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AComparisonNeedsSourcesAndKinds()
    {
        _call.Write("named.yaml", "dataset_name: datasets/d100\n");
        Assert.Equal(ExitCodes.BadInput, await _call.RunAsync(null, "tokenizers", "compare", "named.yaml"));
        Assert.Contains("Set dataset.sources, and no dataset_name", _call.Error, StringComparison.Ordinal);
        Assert.Equal(ExitCodes.BadInput, await _call.RunAsync(null, "tokenizers", "compare", RunFile(), "--kinds", ","));
    }

    private static void Prepare(FakeGateway gateway, string kind, double bitsPerByte, long tokens, long unknown, long unknownBytes)
    {
        gateway.Outcomes[$"runs/cmp-{kind}"] = new Run
        {
            Name = $"runs/cmp-{kind}",
            State = Run.Types.State.Succeeded,
            Dataset = $"datasets/d-{kind}",
            ModelVersion = "models/m100/versions/2",
            Evaluation = new EvaluationResult { Split = "validation", Model = new ModelQuality { BitsPerByte = bitsPerByte, Loss = 3, TokenCount = tokens } },
        };
        gateway.Datasets.Add(new Dataset
        {
            Name = $"datasets/d-{kind}",
            VocabularySize = 8000,
            Splits = { new SplitStatistics { Split = "validation", ByteCount = 5000, TokenCount = tokens, UnknownTokenCount = unknown, UnknownByteCount = unknownBytes } },
        });
    }

    private string RunFile()
    {
        _call.Write("text.txt", "text");
        return _call.Write("run.yaml", "dataset:\n  sources: [text.txt]\n  tokenizer:\n    kind: bpe\n    vocabulary_size: 8000\ntraining:\n  steps: 10\n");
    }
}
