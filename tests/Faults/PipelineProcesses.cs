using System.Globalization;
using System.Net.Security;
using Grpc.Core;
using Grpc.Net.Client;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;

namespace LlmPipeline.Faults;

/// <summary>Preprocessor, coordinator, workers and Evaluator as real processes over one folder. Nothing of it stays behind.</summary>
public sealed class PipelineProcesses : IDisposable
{
    /// <summary>Longest time for anything.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    /// <summary>Longest time for anything here.</summary>
    public TimeSpan Limit { get; init; } = Patience;

    private readonly TemporaryFolder _folder = new();
    private readonly List<ServiceProcess> _workers = [];
    private readonly List<ServiceProcess> _coordinators = [];
    private readonly (string Key, string Value)[] _settings;
    private readonly GrpcChannel _channel;
    private readonly TestAuthority? _authority;

    /// <summary>Starts nothing yet.</summary>
    /// <param name="authority">Gives each of them a certificate, without which the others do not listen to it; null for plain HTTP/2.</param>
    /// <param name="settings">Settings of all of them.</param>
    public PipelineProcesses(TestAuthority? authority = null, params (string Key, string Value)[] settings)
    {
        (_authority, _settings) = (authority, settings);
        Store = BlobStore.Open($"folder={StorageFolder}");
        Preprocessor = Service("preprocessor", "Preprocessor", []);
        Evaluator = Service("evaluator", "Evaluator", []);
        Coordinator = Service("trainer", "Trainer", CoordinatorSettings);
        Gateway = Service("gateway", "Gateway", [("Trainer__Endpoint", Coordinator.Address), .. EndpointsOfStages]);
        _channel = GrpcChannel.ForAddress(Coordinator.Address, new GrpcChannelOptions
        {
            InitialReconnectBackoff = TimeSpan.FromMilliseconds(100),
            MaxReconnectBackoff = TimeSpan.FromSeconds(1),
            HttpHandler = new SocketsHttpHandler { SslOptions = authority?.Client("tests") ?? new SslClientAuthenticationOptions() },
            DisposeHttpClient = true,
        });
        Runs = new RunService.RunServiceClient(_channel);
        TextFile = WriteText("story.txt", Story());
    }

    /// <summary>The text that runs are made of.</summary>
    public string TextFile { get; }

    public ServiceProcess Preprocessor { get; }

    public ServiceProcess Evaluator { get; }

    public ServiceProcess Coordinator { get; }

    /// <summary>Started by the tests that ask it something.</summary>
    public ServiceProcess Gateway { get; }

    /// <summary>In the order in which they were started.</summary>
    public IReadOnlyList<ServiceProcess> Workers => _workers;

    /// <summary>The coordinator's service.</summary>
    public RunService.RunServiceClient Runs { get; }

    /// <summary>The storage of all of them.</summary>
    public IBlobStore Store { get; }

    /// <summary>Where it lies.</summary>
    public string StorageFolder => Path.Combine(_folder.Path, "storage");

    /// <summary>Writes a text that runs can be made of, and returns its path.</summary>
    public string WriteText(string name, string text) => _folder.Write($"text/{name}", text);

    /// <summary>Starts everything but the Evaluator and the Gateway.</summary>
    public void Start(int workers)
    {
        Preprocessor.Start();
        Coordinator.Start();
        for (var i = 0; i < workers; i++)
        {
            StartWorker();
        }
    }

    /// <summary>Starts one more worker.</summary>
    public ServiceProcess StartWorker(params (string Key, string Value)[] settings)
    {
        var worker = AddWorker([], "localhost", settings);
        worker.Start();
        return worker;
    }

    /// <summary>Adds one more worker, and does not start it yet.</summary>
    /// <param name="launcher">What stands before its command; see <see cref="ServiceProcess.Launcher"/>.</param>
    /// <param name="host">Where it listens.</param>
    /// <param name="settings">Settings beyond those that all workers have, or instead of them.</param>
    public ServiceProcess AddWorker(IReadOnlyList<string> launcher, string host, params (string Key, string Value)[] settings)
    {
        var worker = Service($"worker-{_workers.Count}", "Trainer", [("Trainer__Role", "worker"), ("Trainer__Endpoint", Coordinator.Address), ("Worker__Device", "cpu"), .. settings], launcher, host);
        _workers.Add(worker);
        return worker;
    }

    /// <summary>One more coordinator over the same storage, which is not started yet.</summary>
    public ServiceProcess AddCoordinator()
    {
        var coordinator = Service($"trainer-{_coordinators.Count + 2}", "Trainer", CoordinatorSettings);
        _coordinators.Add(coordinator);
        return coordinator;
    }

    /// <summary>Kills all that runs, at once.</summary>
    public void KillEverything()
    {
        // The workers first: they are what writes.
        foreach (var process in All().Reverse())
        {
            process.Kill();
        }
    }

    /// <summary>A run that takes seconds: every number that the tests compare depends on every step before.</summary>
    public RunSpec Spec(Action<RunSpec>? change = null)
    {
        var spec = new RunSpec
        {
            Dataset = new Datasets.V1.DatasetSpec
            {
                Sources = { TextFile },
                Tokenizer = new Datasets.V1.TokenizerSpec { Kind = "character" },
                Split = new Datasets.V1.SplitSpec { Method = "tail", ValidationFraction = 0.1 },
            },
            Model = new ModelSpec { Layers = 2, Heads = 2, Width = 32, Context = 32, Dropout = 0.1 },
            Optimizer = new OptimizerSpec { LearningRate = 3e-3 },
            Training = new TrainingSpec
            {
                Steps = 120,
                BatchSize = 12,
                MicroBatchSize = 2,
                ValidationInterval = 30,
                ValidationSequences = 20,
                CheckpointInterval = 30,
                KeepCheckpoints = 3,
            },
            Evaluation = new EvaluationSpec { BleuSamples = 4, BleuTokens = 8, NgramOrder = 2 },
            Seed = 5,
        };
        change?.Invoke(spec);
        return spec;
    }

    /// <summary>Sentences that are not random, with more to learn than can be learnt: 900 are some 40 kB.</summary>
    public static string Story(int count = 900)
    {
        string[] who = ["the fox", "a small owl", "my neighbour", "the old ferryman", "nobody", "the third cook"];
        string[] does = ["sees", "follows", "forgets", "paints", "counts", "sings to"];
        string[] what = ["the river", "two lanterns", "an empty boat", "the letters", "a field of rye", "the clock"];
        string[] when = ["at night", "before it rains", "again and again", "in spring", "without a word", "by the wall"];
        var random = new Random(11);
        var sentences = Enumerable.Range(0, count).Select(i => $"{Pick(who)} {Pick(does)} {Pick(what)} {Pick(when)}{(i % 7 == 0 ? ".\n" : ", and ")}");
        return string.Concat(sentences);

        string Pick(string[] words) => words[random.Next(words.Length)];
    }

    /// <summary>Creates a run, as soon as the coordinator answers.</summary>
    public async Task<Run> CreateAsync(string id, RunSpec spec)
    {
        var request = new CreateRunRequest { RunId = id, Spec = spec, RequestId = Guid.NewGuid().ToString() };
        var deadline = DateTime.UtcNow + Limit;
        while (true)
        {
            try
            {
                return (await Runs.CreateRunAsync(request, deadline: deadline)).Run;
            }
            catch (RpcException exception) when (exception.StatusCode == StatusCode.Unavailable && DateTime.UtcNow < deadline)
            {
                await Task.Delay(100);
            }
        }
    }

    /// <summary>Follows a run, over restarts of the coordinator, until a condition holds. Fails with all that is known.</summary>
    public async Task<Run> WaitAsync(string name, string what, Func<Run, bool> condition)
    {
        using var timeout = new CancellationTokenSource(Limit);
        Run? last = null;
        while (true)
        {
            try
            {
                using var watch = Runs.WatchRun(new WatchRunRequest { Name = name }, cancellationToken: timeout.Token);
                await foreach (var message in watch.ResponseStream.ReadAllAsync(timeout.Token))
                {
                    last = message.Run;
                    if (condition(last))
                    {
                        return last;
                    }
                }

                throw new InvalidOperationException($"{name} ended without '{what}'.\n{Describe(last)}");
            }
            catch (Exception exception) when (timeout.IsCancellationRequested && exception is RpcException or OperationCanceledException)
            {
                throw new TimeoutException($"{name} did not come to '{what}' within {Limit.TotalSeconds} s.\n{Describe(last)}");
            }
            catch (RpcException exception) when (exception.StatusCode is StatusCode.Unavailable or StatusCode.Internal or StatusCode.Cancelled)
            {
                await Task.Delay(100);
            }
        }
    }

    /// <summary>Waits until the newest step meets a condition.</summary>
    public async Task WaitForStepAsync(string name, string what, Func<StepMetrics, bool> condition)
    {
        var end = DateTime.UtcNow + Limit;
        StepMetrics? newest = null;
        while (newest is null || !condition(newest))
        {
            if (DateTime.UtcNow > end)
            {
                throw new TimeoutException($"{name} did not come to '{what}'; the newest step is {newest}.\n{Describe(null)}");
            }

            await Task.Delay(50);
            var metrics = (await Runs.ListStepMetricsAsync(new ListStepMetricsRequest { Name = name, AfterStep = newest?.Step ?? 0, PageSize = 10_000 })).Metrics;
            newest = metrics.Count > 0 ? metrics[^1] : newest;
        }
    }

    /// <summary>Every step's numbers, as text that shows every bit.</summary>
    public async Task<IReadOnlyList<string>> CurveAsync(string name)
    {
        var metrics = (await Runs.ListStepMetricsAsync(new ListStepMetricsRequest { Name = name, PageSize = 10_000 }, deadline: DateTime.UtcNow + Limit)).Metrics;
        return [.. metrics.Select(m => string.Create(CultureInfo.InvariantCulture,
            $"{m.Step} {m.TrainLoss:R} {m.GradientNorm:R} {m.LearningRate:R} {m.TokenCount} {(m.HasValidationLoss ? m.ValidationLoss : 0):R}"))];
    }

    /// <summary>Whatever helps to understand a failure.</summary>
    public string Describe(Run? run) =>
        $"{run?.State} step {run?.Progress?.Step} {run?.Error}\n{string.Join('\n', run?.Events.Select(e => $"{e.Time.ToDateTime():HH:mm:ss.fff} {e.Kind} {e.Message}") ?? [])}\n{string.Join('\n', All().Select(p => p.Output))}";

    public void Dispose()
    {
        foreach (var process in All().Reverse())
        {
            process.Dispose();
        }

        _channel.Dispose();
        _folder.Dispose();
    }

    private (string Key, string Value)[] CoordinatorSettings =>
        [("Trainer__Role", "coordinator"), .. EndpointsOfStages];

    private (string Key, string Value)[] EndpointsOfStages =>
        [("Preprocessor__Endpoint", Preprocessor.Address), ("Evaluator__Endpoint", Evaluator.Address)];

    private IEnumerable<ServiceProcess> All() => [Preprocessor, Coordinator, Evaluator, Gateway, .. _coordinators, .. _workers];

    private ServiceProcess Service(string name, string project, (string Key, string Value)[] settings, IReadOnlyList<string>? launcher = null, string host = "localhost")
    {
        var environment = _settings.Concat(settings).GroupBy(s => s.Key).ToDictionary(s => s.Key, s => s.Last().Value);
        environment["ConnectionStrings__storage"] = $"folder={StorageFolder}";
        foreach (var (key, value) in _authority?.Settings(name) ?? [])
        {
            environment[key.Replace(":", "__", StringComparison.Ordinal)] = value;
        }

        return new ServiceProcess(name, project, environment) { Launcher = launcher ?? [], Host = host };
    }
}
