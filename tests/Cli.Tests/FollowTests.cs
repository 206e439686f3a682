using System.Text.Json.Nodes;
using LlmPipeline.Cli.Following;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Runs.V1;
using Spectre.Console;

namespace LlmPipeline.Cli.Tests;

public sealed class FollowTests : IAsyncLifetime
{
    private readonly CliCall _cli = new();
    private FakeGateway _gateway = null!;

    internal static EvaluationResult Result => new()
    {
        Split = "validation",
        Model = new ModelQuality { TokenCount = 111_540, Loss = 1.8953, Perplexity = 6.6545, BitsPerByte = 2.7343, Accuracy = 0.4321, Bleu = 3.25 },
        Ngram = new ModelQuality { TokenCount = 111_540, Loss = 1.5165, Perplexity = 4.5562, BitsPerByte = 2.1878, Accuracy = 0.5432 },
        NgramOrder = 7,
        TokensPerSecond = 45_678,
    };

    public async ValueTask InitializeAsync() => _gateway = await FakeGateway.StartAsync();

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _cli.Dispose();
    }

    [Fact]
    public async Task AFollowedRunShowsItsStagesItsFiguresAndItsTable()
    {
        AddRun();
        _cli.Variables["ConnectionStrings__storage"] = "folder=/data";

        Assert.Equal(0, await _cli.RunAsync(_gateway, "train", _cli.Write("run.yaml", "dataset_name: datasets/d100"), "--follow"));
        var lines = _cli.Output.Split('\n').Select(l => l.Length > 10 && l[2] == ':' ? l[10..] : l).ToList();
        Assert.Equal("runs/r100", lines[0]);
        Assert.Equal(
            [
                "QUEUED",
                "PREPARING    25%  0:30 left",
                "TRAINING    step 0/1,000",
                "worker-1 has joined.",
                "TRAINING     35%  step 350/1,000  loss 2.3456  validation 2.4000  12,345 tokens/s  2 workers  1:05 left",
                "EVALUATING",
                "PUBLISHING",
                "SUCCEEDED",
            ],
            lines[1..9]);
        AssertTable(_cli.Output);
        Assert.Contains("Model        models/m100/versions/1  in /data/models/m100/versions/1", _cli.Output, StringComparison.Ordinal);
        Assert.Contains("runs/r100 succeeded after 2:05.", _cli.Output, StringComparison.Ordinal);
        Assert.Matches(@"training tokens/s\s+\|\s+10,000 \|\s+- ", _cli.Output);
    }

    [Fact]
    public async Task AWatchGoesOnAfterABrokenConnectionWithoutRepeatingAState()
    {
        AddRun();
        _gateway.Runs.Add(new Run { Name = "runs/r100" });
        _gateway.Versions.Insert(3, null);
        _gateway.Versions.Insert(5, null);

        Assert.Equal(0, await _cli.RunAsync(_gateway, "runs", "watch", "r100"));
        Assert.Equal(3, _gateway.Requests.Count);
        Assert.All(_gateway.Requests.Skip(1), r => Assert.InRange(((WatchRunRequest)r).AfterSequence, 3, 4));
        Assert.DoesNotContain(null, _gateway.Versions);
        foreach (var state in new[] { "QUEUED", "PREPARING", "EVALUATING", "SUCCEEDED" })
        {
            Assert.Single(_cli.Output.Split('\n'), l => l.Contains($"  {state}", StringComparison.Ordinal));
        }

        Assert.Contains("the connection is lost; looking for the server", _cli.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AServerThatStaysAwayEndsTheWatchWithExitCode3()
    {
        _gateway.Versions.Add(new Run { Name = "runs/r100", State = Run.Types.State.Training });
        var call = _cli.RunAsync(_gateway, "train", _cli.Write("run.yaml", "dataset_name: datasets/d100"), "--follow");
        await _gateway.WatcherWaits.Task.WaitAsync(TimeSpan.FromSeconds(30));
        await _gateway.DisposeAsync();

        Assert.Equal(3, await call);
        Assert.Contains("no server answers at", _cli.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task CtrlCLeavesTheRunAndSaysHowToGoOn()
    {
        _gateway.Versions.Add(new Run { Name = "runs/r100", State = Run.Types.State.Training });
        using var ctrlC = new CancellationTokenSource();
        var call = _cli.RunAsync(_gateway, ctrlC.Token, "train", _cli.Write("run.yaml", "dataset_name: datasets/d100"), "--follow");
        await _gateway.WatcherWaits.Task.WaitAsync(TimeSpan.FromSeconds(30));
        await ctrlC.CancelAsync();

        Assert.Equal(130, await call);
        Assert.Contains("runs/r100 goes on without being watched.", _cli.Error, StringComparison.Ordinal);
        Assert.Contains("llmpipe runs watch runs/r100", _cli.Error, StringComparison.Ordinal);
        Assert.Contains("llmpipe runs cancel runs/r100", _cli.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(Run.Types.State.Failed, 1, "runs/r100 failed: The text is empty. (SOURCE_EMPTY)")]
    [InlineData(Run.Types.State.Cancelled, 130, "runs/r100 was cancelled")]
    public async Task TheExitCodeTellsHowTheRunEnded(Run.Types.State state, int exitCode, string expected)
    {
        _gateway.Versions.Add(new Run { Name = "runs/r100", State = Run.Types.State.Preparing });
        _gateway.Versions.Add(new Run { Name = "runs/r100", State = state, Error = state == Run.Types.State.Failed ? new RunError { Reason = "SOURCE_EMPTY", Message = "The text is empty." } : null });

        Assert.Equal(exitCode, await _cli.RunAsync(_gateway, "train", _cli.Write("run.yaml", "dataset_name: datasets/d100"), "--follow"));
        Assert.Contains(expected, _cli.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task JsonIsALineForEachVersion()
    {
        AddRun();

        Assert.Equal(0, await _cli.RunAsync(_gateway, "train", _cli.Write("run.yaml", "dataset_name: datasets/d100"), "--follow", "--json"));
        var versions = _cli.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => JsonNode.Parse(l)!).ToList();
        Assert.Equal(_gateway.Versions.Count, versions.Count);
        Assert.Equal("STATE_SUCCEEDED", (string?)versions[^1]["state"]);
        Assert.Equal(1.8953, (double?)versions[^1]["evaluation"]!["model"]!["loss"]);
    }

    [Fact]
    public async Task TheQuickStartWaitsForTheServicesTrainsAndSaysWhatToTryNext()
    {
        AddRun();
        _gateway.UnavailableCalls = 2;
        _cli.Variables["LLMPIPE_REST"] = "http://localhost:9999/";

        Assert.Equal(0, await _cli.RunAsync(_gateway, "quickstart", "--seconds", "20", "--workers", "2"));
        var request = (CreateRunRequest)_gateway.Requests.First();
        Assert.Equal(("dotnet-docs:", 20.0, 2), (request.Spec.Dataset.Sources.Single(), request.Spec.Training.MaxSeconds, request.Spec.Training.StartWorkers));
        AssertTable(_cli.Output);
        Assert.Contains("Waiting for the services to start.", _cli.Output, StringComparison.Ordinal);
        Assert.Contains("curl http://localhost:9999/v1/completions", _cli.Output, StringComparison.Ordinal);
        Assert.Contains("open http://localhost:9999/ in a browser", _cli.Output, StringComparison.Ordinal);
        Assert.Contains("dotnet run --project Cli -- generate quickstart \"Gets or sets the\"", _cli.Output, StringComparison.Ordinal);
        var body = _cli.Output.Split("-d '")[1].Split('\'')[0];
        Assert.Equal("quickstart", (string?)JsonNode.Parse(body)!["model"]);

        Directory.CreateDirectory(Path.Combine(_cli.Directory, "books"));
        Assert.Equal(0, await _cli.RunAsync(_gateway, "quickstart", "--text", "books"));
        var second = _gateway.Requests.OfType<CreateRunRequest>().Last();
        Assert.Equal(Path.Combine(_cli.Directory, "books"), second.Spec.Dataset.Sources.Single());
        Assert.NotEqual(request.RequestId, second.RequestId);
        Assert.Equal(2, await _cli.RunAsync(_gateway, "quickstart", "--text", "none"));
    }

    [Fact]
    public async Task ATerminalShowsABarForEachStage()
    {
        AddRun();
        var output = new StringWriter();
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new WideOutput(output), Ansi = AnsiSupport.Yes, Interactive = InteractionSupport.Yes, ColorSystem = ColorSystemSupport.NoColors });
        await LiveRunView.RunAsync(console, view =>
        {
            foreach (var run in _gateway.Versions.Take(4))
            {
                view.Show(run!);
            }

            view.ConnectionLost();
            return Task.CompletedTask;
        });

        Assert.Contains("worker-1 has joined.", output.ToString(), StringComparison.Ordinal);
        Assert.Contains("The connection is lost", output.ToString(), StringComparison.Ordinal);
        Assert.Matches(@"Preparing\s.*100%", output.ToString());
        Assert.Matches(@"Training\s.*35%.* step 350/1,000  loss 2.3456  validation 2.4000  12,345 tokens/s  2 workers  1:05 left", output.ToString());
        Assert.Matches(@"Publishing\s.*0%", output.ToString());
    }

    internal static void AssertTable(string output, string model = "network")
    {
        foreach (var (title, network, ngram) in new[]
        {
            ("validation split", model, "Kneser-Ney 7-gram"), ("loss \\(nats/token\\)", "1.8953", "1.5165"), ("perplexity", "6.65", "4.56"), ("bits per byte", "2.7343", "2.1878"),
            ("next-token accuracy", "43.21 %", "54.32 %"), ("BLEU of continuations", "3.25", "-"), ("evaluation tokens/s", "45,678", "-"), ("tokens", "111,540", "111,540"),
        })
        {
            Assert.Matches($@"\| {title}\s+\|\s+{network} \|\s+{ngram} \|", output);
        }
    }

    private sealed class WideOutput(TextWriter writer) : IAnsiConsoleOutput
    {
        public TextWriter Writer => writer;

        public bool IsTerminal => true;

        public int Width => 160;

        public int Height => 50;

        public void SetEncoding(System.Text.Encoding encoding)
        {
        }
    }

    private void AddRun()
    {
        var start = new DateTime(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc);
        var run = new Run { Name = "runs/r100", State = Run.Types.State.Queued, CreateTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTime(start) };
        Add(_ => { });
        Add(r =>
        {
            r.State = Run.Types.State.Preparing;
            r.Progress = new RunProgress { Fraction = 0.25, RemainingSeconds = 30 };
        });
        Add(r =>
        {
            r.State = Run.Types.State.Training;
            r.Progress = new RunProgress { TotalSteps = 1000 };
        });
        Add(r =>
        {
            r.Events.Add(new RunEvent { Sequence = r.Events.Count + 1, Kind = "WORKER_JOINED", Message = "worker-1 has joined.", Time = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTime(start.AddSeconds(30)) });
            r.Workers.Add([new RunWorker { WorkerId = "worker-0" }, new RunWorker { WorkerId = "worker-1" }]);
            r.Progress = new RunProgress { Step = 350, TotalSteps = 1000, TrainLoss = 2.3456, ValidationLoss = 2.4, TokensPerSecond = 12_345, RemainingSeconds = 65, Fraction = 0.35 };
        });
        Add(r =>
        {
            r.State = Run.Types.State.Evaluating;
            r.Progress = new RunProgress { Step = 1000, TotalSteps = 1000, TokenCount = 1_000_000, TrainSeconds = 100 };
        });
        Add(r => r.State = Run.Types.State.Publishing);
        Add(r =>
        {
            r.State = Run.Types.State.Succeeded;
            r.Evaluation = Result;
            r.ModelVersion = "models/m100/versions/1";
            r.EndTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTime(start.AddSeconds(125));
        });

        void Add(Action<Run> change)
        {
            change(run);
            _gateway.Versions.Add(run.Clone());
        }
    }
}
