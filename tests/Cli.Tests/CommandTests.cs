using System.Text;
using System.Text.Json.Nodes;
using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;
using LlmPipeline.Cli.Commands;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Inference.V1;
using LlmPipeline.Runs.V1;
using Status = Grpc.Core.Status;

namespace LlmPipeline.Cli.Tests;

public sealed class CommandTests : IAsyncLifetime
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
    public async Task TrainSendsTheSpecAndSaysHowToWatch()
    {
        Directory.CreateDirectory(Path.Combine(_cli.Directory, "books"));
        var file = _cli.Write("run.yaml", "dataset:\n  sources: [books]\ntraining:\n  steps: 5\n");

        Assert.Equal(0, await _cli.RunAsync(_gateway, "train", file, "--set", "training.steps=7", "--set", "seed=2", "--run-id", "my-run"));
        var request = (CreateRunRequest)Assert.Single(_gateway.Requests);
        Assert.Equal("my-run", request.RunId);
        Assert.True(Guid.TryParse(request.RequestId, out _));
        Assert.Equal(Path.Combine(_cli.Directory, "books"), Assert.Single(request.Spec.Dataset.Sources));
        Assert.Equal((7L, 2L), (request.Spec.Training.Steps, request.Spec.Seed));
        Assert.Equal("runs/my-run is QUEUED. Watch it with 'llmpipe runs watch runs/my-run'.\n", _cli.Output);
    }

    [Theory]
    [InlineData("modle: x", "error: run.yaml:1:1: unknown key 'modle'")]
    [InlineData("dataset:\n  sources: [none]", "error: the source 'none' does not exist")]
    [InlineData("seed: 1", "error: run.yaml: no text is named.")]
    public async Task NothingIsSentWhenTheRunFileIsWrong(string yaml, string expected)
    {
        Assert.Equal(2, await _cli.RunAsync(_gateway, "train", _cli.Write("run.yaml", yaml)));
        Assert.StartsWith(expected, _cli.Error, StringComparison.Ordinal);
        Assert.Empty(_gateway.Requests);
    }

    [Theory]
    [InlineData("error: --authority none.pem: cannot be used: ", "--authority", "none.pem")]
    [InlineData("error: --certificate notes.pem: cannot be used: ", "--certificate", "notes.pem")]
    [InlineData("error: --key some.key: a key needs its certificate; name its file with --certificate", "--key", "some.key")]
    public async Task TlsFilesThatCannotBeUsedAreNamedBeforeAnythingIsSent(string expected, params string[] options)
    {
        var file = _cli.Write("notes.pem", "no certificate");
        Assert.Equal(2, await _cli.RunAsync(_gateway, ["runs", "list", .. options.Select(o => o == file ? Path.Combine(_cli.Directory, file) : o)]));
        Assert.StartsWith(expected, _cli.Error.Replace(_cli.Directory + "/", "", StringComparison.Ordinal), StringComparison.Ordinal);
        Assert.Empty(_gateway.Requests);
    }

    [Fact]
    public async Task TlsFilesComeFromTheEnvironmentToo()
    {
        _cli.Variables["LLMPIPE_AUTHORITY"] = "nowhere.pem";
        Assert.Equal(2, await _cli.RunAsync(_gateway, "runs", "list"));
        Assert.StartsWith("error: --authority nowhere.pem: cannot be used: ", _cli.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AMissingRunFileIsNamed()
    {
        Assert.Equal(2, await _cli.RunAsync(_gateway, "train", "none.yaml"));
        Assert.StartsWith("error: none.yaml: cannot be read:", _cli.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("nonsense")]
    [InlineData("train")]
    [InlineData("quickstart", "--seconds", "0")]
    [InlineData("evaluate", "m100", "d100", "--split", "all")]
    [InlineData("generate", "m100", "x", "--max-tokens", "many")]
    [InlineData("runs", "list", "--endpoint", "nowhere")]
    public async Task AWrongCommandLineIsExitCode2(params string[] args)
    {
        Assert.Equal(2, await _cli.RunAsync(null, args));
        Assert.NotEmpty(_cli.Error);
    }

    [Fact]
    public async Task AServerThatDoesNotAnswerIsExitCode3()
    {
        Assert.Equal(3, await _cli.RunAsync(null, "runs", "list", "--endpoint", "http://127.0.0.1:9"));
        Assert.Contains("no server answers at http://127.0.0.1:9", _cli.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ARefusalKeepsItsMessageAndReason()
    {
        _gateway.Refusal = new Google.Rpc.Status
        {
            Code = (int)StatusCode.InvalidArgument,
            Message = "model.heads is 5: it must divide model.width, 192.",
            Details = { Any.Pack(new ErrorInfo { Domain = "llmpipeline", Reason = "INVALID_SPEC" }) },
        }.ToRpcException();
        var file = _cli.Write("run.yaml", "dataset_name: datasets/d100");

        Assert.Equal(2, await _cli.RunAsync(_gateway, "train", file));
        Assert.Equal("error: model.heads is 5: it must divide model.width, 192.\n", _cli.Error);
        using var json = new CliCall();
        Assert.Equal(2, await json.RunAsync(_gateway, "train", Path.Combine(_cli.Directory, file), "--json"));
        Assert.Equal("INVALID_SPEC", (string?)JsonNode.Parse(json.Error)!["error"]!["reason"]);

        _gateway.Refusal = new RpcException(new Status(StatusCode.Internal, "a fault"));
        Assert.Equal(1, await _cli.RunAsync(_gateway, "train", file));
        _gateway.Refusal = new RpcException(new Status(StatusCode.Unavailable, "no workers"));
        Assert.Equal(3, await _cli.RunAsync(_gateway, "train", file));
        Assert.EndsWith("error: a fault\nerror: no workers\n", _cli.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunsAreListedOverAllPages()
    {
        _gateway.Runs.Add(new Run { Name = "runs/r200", State = Run.Types.State.Training, Progress = new RunProgress { Step = 1234, TotalSteps = 2000, TrainLoss = 2.5 } });
        _gateway.Runs.Add(new Run { Name = "runs/r100", State = Run.Types.State.Succeeded, ModelVersion = "models/m100/versions/1" });

        Assert.Equal(0, await _cli.RunAsync(_gateway, "runs", "list"));
        var lines = _cli.Output.Split('\n');
        Assert.Equal(["run", "state", "step", "loss", "model", "created"], lines[0].Split(' ', StringSplitOptions.RemoveEmptyEntries));
        Assert.Equal(["runs/r200", "TRAINING", "1,234/2,000", "2.5000"], lines[1].Split(' ', StringSplitOptions.RemoveEmptyEntries));
        Assert.Equal(["runs/r100", "SUCCEEDED", "models/m100/versions/1"], lines[2].Split(' ', StringSplitOptions.RemoveEmptyEntries));
        using var json = new CliCall();
        await json.RunAsync(_gateway, "runs", "list", "--json");
        Assert.Equal("2000", (string?)JsonNode.Parse(json.Output)![0]!["progress"]!["total_steps"]);
        Assert.Equal(2, JsonNode.Parse(json.Output)!.AsArray().Count);
    }

    [Fact]
    public async Task ASpecThatIsShownGivesTheSameRunAgain()
    {
        var spec = QuickstartCommand.Spec("dotnet-docs:", 150, 2);
        spec.Seed = long.MaxValue;
        spec.Optimizer.LearningRate = 1.0 / 3;
        _gateway.Runs.Add(new Run { Name = "runs/r100", Spec = spec });

        Assert.Equal(0, await _cli.RunAsync(_gateway, "runs", "show", "r100", "--spec"));
        var file = _cli.Write("again.yaml", _cli.Output);
        Assert.Equal(0, await _cli.RunAsync(_gateway, "train", file));
        Assert.Equal(spec, ((CreateRunRequest)Assert.Single(_gateway.Requests)).Spec);
    }

    [Fact]
    public async Task RunsAreShownCancelledAndResumed()
    {
        _gateway.Runs.Add(new Run
        {
            Name = "runs/r100",
            State = Run.Types.State.Failed,
            Attempt = 2,
            LatestCheckpoint = "runs/r100/checkpoints/00000250",
            Error = new RunError { Reason = "LOSS_NOT_FINITE", Message = "The loss of step 260 is NaN." },
            Events = { new RunEvent { Kind = "WORKER_LOST", Message = "worker-1 is lost.", Time = Timestamp.FromDateTime(DateTime.UnixEpoch) } },
        });

        Assert.Equal(0, await _cli.RunAsync(_gateway, "runs", "show", "r100"));
        Assert.Contains("worker-1 is lost.", _cli.Output, StringComparison.Ordinal);
        Assert.Contains("The loss of step 260 is NaN. (LOSS_NOT_FINITE)", _cli.Output, StringComparison.Ordinal);
        Assert.Contains("llmpipe runs resume runs/r100", _cli.Output, StringComparison.Ordinal);
        Assert.Equal(0, await _cli.RunAsync(_gateway, "runs", "resume", "runs/r100", "--checkpoint", "runs/r100/checkpoints/00000100"));
        Assert.Equal("runs/r100/checkpoints/00000100", ((ResumeRunRequest)_gateway.Requests.Single()).Checkpoint);
        Assert.Equal(0, await _cli.RunAsync(_gateway, "runs", "cancel", "r100"));
        Assert.EndsWith("runs/r100 is QUEUED.\nruns/r100 is CANCELLING.\n", _cli.Output, StringComparison.Ordinal);
        Assert.Equal(2, await _cli.RunAsync(_gateway, "runs", "cancel", "r999"));
        Assert.Equal("error: 'runs/r999' does not exist.\n", _cli.Error);
    }

    [Fact]
    public async Task ARunsReportIsShownAsMarkdownOrJsonAndSteersNoTerminal()
    {
        _gateway.Runs.Add(new Run { Name = "runs/r100" });
        Assert.Equal(0, await _cli.RunAsync(_gateway, "runs", "report", "r100"));
        Assert.StartsWith("# Report: runs/r100", _cli.Output, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', _cli.Output);
        using var json = new CliCall();
        Assert.Equal(0, await json.RunAsync(_gateway, "runs", "report", "runs/r100", "--json"));
        Assert.Equal("{ \"run\": \"runs/r100\" }\n", json.Output);
        Assert.Equal(2, await _cli.RunAsync(_gateway, "runs", "report", "r999"));
        Assert.Equal("error: 'runs/r999' does not exist.\n", _cli.Error);
    }

    [Fact]
    public async Task ARunsReportGoesIntoAFolderWithItsCurvesAndNothingGoesOutOfIt()
    {
        _gateway.Runs.Add(new Run { Name = "runs/r100" });
        Assert.Equal(0, await _cli.RunAsync(_gateway, "runs", "report", "r100", "--output", "made/r100"));
        Assert.Equal("The report is in made/r100.\n", _cli.Output);
        var folder = Path.Combine(_cli.Directory, "made", "r100");
        Assert.Equal("# Report: runs/r100\u001b[2J\n", await File.ReadAllTextAsync(Path.Combine(folder, "report.md")));
        Assert.Equal("{ \"run\": \"runs/r100\" }\n", await File.ReadAllTextAsync(Path.Combine(folder, "report.json")));
        Assert.Equal("<svg/>\n", await File.ReadAllTextAsync(Path.Combine(folder, "curves", "loss.svg")));

        _gateway.Curves.Add("../loss.svg");
        Assert.Equal(2, await _cli.RunAsync(_gateway, "runs", "report", "r100", "--output", "again/r100"));
        Assert.Contains("'../loss.svg', which is outside of its folder", _cli.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(_cli.Directory, "again", "loss.svg")));
    }

    [Fact]
    public async Task DatasetsAndModelsAreListed()
    {
        Assert.Equal(0, await _cli.RunAsync(_gateway, "datasets", "list"));
        Assert.Equal(0, await _cli.RunAsync(_gateway, "datasets", "show", "d100"));
        Assert.Equal(0, await _cli.RunAsync(_gateway, "models", "list"));
        Assert.Contains("train  12,345     1,234,567  9,876,543", _cli.Output, StringComparison.Ordinal);
        Assert.Contains("models/m100  models/m100/versions/2  runs/r100  803,456     64       1.8953", _cli.Output, StringComparison.Ordinal);
        Assert.Equal(2, await _cli.RunAsync(_gateway, "datasets", "show", "d999"));
    }

    [Fact]
    public async Task AModelIsImportedFromAPathOfThisFolder()
    {
        Assert.Equal(0, await _cli.RunAsync(_gateway, "models", "import", "gpt2", "--id", "gpt2-small", "--tokenizer", "/vocab/tokenizer.json"));
        Assert.Equal("models/gpt2-small/versions/3: 260,032 parameters, context 512\n", _cli.Output);
        var request = (ImportModelRequest)_gateway.Requests.Single();
        Assert.True(Path.IsPathFullyQualified(request.Path));
        Assert.Equal(("gpt2", "gpt2-small", "/vocab/tokenizer.json"), (Path.GetFileName(request.Path), request.ModelId, request.Tokenizer));
        Assert.NotEqual(0, await _cli.RunAsync(_gateway, "models", "import", "gpt2"));
    }

    [Fact]
    public async Task DataCardIsShownAsMarkdownOrJson()
    {
        Assert.Equal(0, await _cli.RunAsync(_gateway, "datasets", "card", "d100"));
        Assert.Equal("# Data card: datasets/d100\n", _cli.Output);
        using var json = new CliCall();
        Assert.Equal(0, await json.RunAsync(_gateway, "datasets", "card", "datasets/d100", "--json"));
        Assert.Equal("{ \"dataset\": \"datasets/d100\" }\n", json.Output);
        Assert.Equal(2, await _cli.RunAsync(_gateway, "datasets", "card", "d999"));
    }

    [Fact]
    public async Task GenerateStreamsAndLetsNoTextSteerTheTerminal()
    {
        Assert.Equal(0, await _cli.RunAsync(_gateway, "generate", "m100", "Once", "--max-tokens", "9", "--temperature", "0", "--top-k", "5", "--top-p", "0.5", "--seed", "3", "--stop", "a", "--stop", "b"));
        Assert.Equal("Once there was\ufffd[2J\n", _cli.Output);
        Assert.Equal(
            new GenerateRequest { Model = "m100", Prompt = "Once", MaxTokens = 9, Temperature = 0, TopK = 5, TopP = 0.5, Seed = 3, Stop = { "a", "b" } },
            _gateway.Requests.Single());

        using var json = new CliCall { Input = "from a pipe" };
        Assert.Equal(0, await json.RunAsync(_gateway, "generate", "m100", "-", "--json"));
        var answer = JsonNode.Parse(json.Output)!;
        Assert.Equal(("from a pipe", " there was\u001b[2J", "length", 2), ((string?)answer["prompt"], (string?)answer["text"], (string?)answer["finish_reason"], (int?)answer["completion_token_count"]));
        var request = (GenerateRequest)_gateway.Requests.Last();
        Assert.False(request.HasTemperature || request.HasTopP || request.HasSeed);
    }

    [Fact]
    public async Task ClassifyShowsTheClassOfEachText()
    {
        Assert.Equal(0, await _cli.RunAsync(_gateway, "classify", "m100", "a joy", "dull\u001b[2J"));
        Assert.Equal(
            """
            CLASS  PROBABILITY  TEXT
            bad    75.0 %       a joy
            good   87.5 %       dull\ufffd[2J

            """.Replace("\\ufffd", "\ufffd", StringComparison.Ordinal).ReplaceLineEndings("\n"), _cli.Output);

        // Lines of standard input, as many to a request as it may have.
        using var json = new CliCall { Input = string.Concat(Enumerable.Range(0, 70).Select(i => $"text {i}\n\n")) };
        Assert.Equal(0, await json.RunAsync(_gateway, "classify", "m100", "-", "--json"));
        var lines = json.Output.TrimEnd('\n').Split('\n').Select(l => JsonNode.Parse(l)!).ToList();
        Assert.Equal((70, "text 69", "bad", 0.25), (lines.Count, (string?)lines[^1]["text"], (string?)lines[^1]["label"], (double?)lines[^1]["probabilities"]!["good"]));
        Assert.Equal([2, 64, 6], _gateway.Requests.OfType<ClassifyRequest>().Select(r => r.Inputs.Count));
        using var longer = new CliCall { Input = string.Concat(Enumerable.Range(0, 5).Select(_ => new string('x', 20_000) + "\n")) };
        Assert.Equal(0, await longer.RunAsync(_gateway, "classify", "m100", "-"));
        Assert.Equal([2, 2, 1], _gateway.Requests.OfType<ClassifyRequest>().Skip(3).Select(r => r.Inputs.Count));
    }

    [Fact]
    public async Task EvaluateShowsTheModelBesideTheNgram()
    {
        _gateway.Evaluations.Add(new Evaluation { Name = "evaluations/e100", State = Evaluation.Types.State.Running, Fraction = 0.5 });
        _gateway.Evaluations.Add(new Evaluation { Name = "evaluations/e100", State = Evaluation.Types.State.Succeeded, Result = FollowTests.Result });

        Assert.Equal(0, await _cli.RunAsync(_gateway, "evaluate", "m100", "d100", "--split", "test", "--bleu-samples", "0"));
        var spec = ((CreateEvaluationRequest)_gateway.Requests.Single()).Spec;
        Assert.Equal(new EvaluationRequestSpec { Model = "models/m100", Dataset = "datasets/d100", Split = "test", BleuSamples = 0, BleuTokens = 32, NgramOrder = 3 }, spec);
        FollowTests.AssertTable(_cli.Output, "model");

        _gateway.Evaluations[^1] = new Evaluation { Name = "evaluations/e100", State = Evaluation.Types.State.Failed, Error = new EvaluationError { Reason = "TOKENIZER_MISMATCH", Message = "Another tokenizer." } };
        Assert.Equal(1, await _cli.RunAsync(_gateway, "evaluate", "m100", "d100"));
        Assert.Equal("error: evaluations/e100 failed: Another tokenizer. (TOKENIZER_MISMATCH)\n", _cli.Error);
    }

    [Fact]
    public async Task ARunOfAnNgramModelIsNamedAndWhatItCannotPredictIsCounted()
    {
        var quality = new ModelQuality { TokenCount = 1000, Loss = double.PositiveInfinity, Perplexity = double.PositiveInfinity, BitsPerByte = double.PositiveInfinity, ImpossibleCount = 12 };
        _gateway.Runs.Add(new Run
        {
            Name = "runs/r100",
            State = Run.Types.State.Succeeded,
            Spec = new RunSpec { Model = new ModelSpec { Architecture = "ngram", Ngram = new NgramSpec { Order = 5, Smoothing = "maximum-likelihood" } } },
            Evaluation = new EvaluationResult { Split = "validation", Model = quality },
        });
        Assert.Equal(0, await _cli.RunAsync(_gateway, "runs", "show", "r100"));
        Assert.Matches(@"\| validation split\s+\| maximum-likelihood 5-gram \|", _cli.Output);
        Assert.Matches(@"\| perplexity\s+\|\s+Infinity \|", _cli.Output);
        Assert.Matches(@"\| tokens of probability 0\s+\|\s+12 \|", _cli.Output);
    }

    [Theory]
    [InlineData("best", "runs/r100/checkpoints/00000250", "runs/r100/checkpoints/00000250")]
    [InlineData("last", "runs/r100/checkpoints/00000250", "runs/r100/checkpoints/00000500")]
    [InlineData("best", "", "runs/r100/checkpoints/00000500")]
    public async Task TheCheckpointOfARunIsTheOneThatWasPublished(string choice, string best, string expected)
    {
        _gateway.Runs.Add(new Run
        {
            Name = "runs/r100",
            State = Run.Types.State.Succeeded,
            Spec = new RunSpec { Evaluation = new EvaluationSpec { Checkpoint = choice } },
            BestCheckpoint = best,
            LatestCheckpoint = "runs/r100/checkpoints/00000500",
        });
        Assert.Equal(0, await _cli.RunAsync(_gateway, "runs", "show", "r100"));
        Assert.Contains($"Checkpoint   {expected}\n", _cli.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task HelpHasExamples()
    {
        foreach (var command in new[] { "train", "runs", "quickstart", "datasets", "models", "generate", "classify", "evaluate", "evaluations" })
        {
            using var call = new CliCall();
            Assert.Equal(0, await call.RunAsync(null, command, "--help"));
            Assert.Contains("\nExamples:\n", call.Output, StringComparison.Ordinal);
            Assert.Contains($"llmpipe {command}", call.Output[call.Output.IndexOf("Examples:", StringComparison.Ordinal)..], StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task TrainBeginsTheTraceOfItsRun()
    {
        _cli.Variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = _gateway.Endpoint;
        Environment.SetEnvironmentVariable("OTEL_EXPORTER_OTLP_ENDPOINT", _gateway.Endpoint);
        try
        {
            Assert.Equal(0, await _cli.RunAsync(_gateway, "train", _cli.Write("run.yaml", "dataset_name: datasets/d100")));
        }
        finally
        {
            Environment.SetEnvironmentVariable("OTEL_EXPORTER_OTLP_ENDPOINT", null);
        }

        var trace = Convert.FromHexString(_gateway.TraceParents.Single().Split('-')[1]);
        var exported = _gateway.Exports.SelectMany(e => e).ToArray().AsSpan();
        Assert.True(exported.IndexOf(trace) >= 0);
        Assert.True(exported.IndexOf(Encoding.UTF8.GetBytes("llmpipe train")) >= 0);
    }
}
