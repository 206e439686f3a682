using System.Diagnostics;
using Grpc.Core;
using Grpc.Net.Client;
using LlmPipeline.Runs.V1;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Faults.Scenarios;

/// <summary>Services that are started before those that they need.</summary>
public static class Startup
{
    /// <summary>Preprocessor, coordinator, worker and Gateway: the worker dials the coordinator, the coordinator the Preprocessor, the Gateway both.</summary>
    private const string Preprocessor = "preprocessor", Coordinator = "coordinator", Worker = "worker", Gateway = "gateway";

    private static readonly IReadOnlyList<string[]> Orders = [.. Permutations([Preprocessor, Coordinator, Worker, Gateway])];

    /// <summary>45: the four in each of their 24 orders; in short: what is needed comes last, the coordinator comes last, and a random order.</summary>
    public static Scenario AnyOrder { get; } = new(45, "services started in any order, each with storage that is empty", 1, async context =>
    {
        context.Setup.Rest();
        var orders = context.IsLong ? Orders :
        [
            [Worker, Gateway, Coordinator, Preprocessor],
            [Gateway, Worker, Preprocessor, Coordinator],
            Orders[context.Random.Next(Orders.Count)],
        ];
        var figures = new List<Figure>();
        foreach (var order in orders)
        {
            figures.AddRange(await StartAsync(order, context.Random));
        }

        return figures;
    });

    private static async Task<IEnumerable<Figure>> StartAsync(string[] order, Random random)
    {
        using var pipeline = new PipelineProcesses();
        var services = new Dictionary<string, ServiceProcess>
        {
            [Preprocessor] = pipeline.Preprocessor,
            [Coordinator] = pipeline.Coordinator,
            [Worker] = pipeline.AddWorker([], "localhost"),
            [Gateway] = pipeline.Gateway,
        };
        foreach (var name in order)
        {
            await Task.Delay(random.Next(1000));
            services[name].Start();
        }

        var clock = Stopwatch.StartNew();
        using var http = new HttpClient { Timeout = TimeSpan.FromSeconds(2) };
        foreach (var (name, service) in services)
        {
            while (!await IsReadyAsync(http, service))
            {
                Require(service.IsRunning, $"The {name} ended by itself.");
                Require(clock.Elapsed < pipeline.Limit, $"The {name} was not ready after {clock.Elapsed.TotalSeconds:0} s.");
                await Task.Delay(50);
            }
        }

        var ready = clock.Elapsed;

        // Ready means that a run is taken at the first attempt, and begins.
        using var channel = GrpcChannel.ForAddress(pipeline.Gateway.Address);
        var runs = new RunService.RunServiceClient(channel);
        var run = (await runs.CreateRunAsync(new CreateRunRequest { RunId = "first", Spec = pipeline.Spec() }, deadline: DateTime.UtcNow + pipeline.Limit)).Run;
        using var watch = runs.WatchRun(new WatchRunRequest { Name = run.Name }, deadline: DateTime.UtcNow + pipeline.Limit);
        await foreach (var message in watch.ResponseStream.ReadAllAsync())
        {
            run = message.Run;
            if (run.Progress?.Step > 0)
            {
                break;
            }
        }

        Require(run.Progress?.Step > 0 && run.State is not (State.Failed or State.Cancelled), "The run did not begin.");
        foreach (var (name, service) in services)
        {
            Require(service.IsRunning, $"The {name} ended by itself.");
        }

        return
        [
            new Figure("seconds from the last start until all are ready", ready.TotalSeconds, 20),
            new Figure("seconds from then to the first step of a run (for information)", (clock.Elapsed - ready).TotalSeconds, 60),
        ];

        void Require(bool condition, string what)
        {
            if (!condition)
            {
                throw new InvalidOperationException($"{what} The order was {string.Join(", ", order)}.\n{pipeline.Describe(null)}");
            }
        }
    }

    private static async Task<bool> IsReadyAsync(HttpClient http, ServiceProcess service)
    {
        try
        {
            using var answer = await http.GetAsync(new Uri($"{service.HttpAddress}/health/ready"));
            return answer.IsSuccessStatusCode;
        }
        catch (Exception exception) when (exception is HttpRequestException or TaskCanceledException)
        {
            return false;
        }
    }

    private static IEnumerable<string[]> Permutations(string[] items) => items.Length == 0
        ? [[]]
        : items.SelectMany(first => Permutations([.. items.Where(item => item != first)]).Select(rest => (string[])[first, .. rest]));
}
