using System.Net;
using LlmPipeline.Faults.Proxy;
using LlmPipeline.Runs.V1;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Faults;

/// <summary>
/// A coordinator and workers as processes on loopback ports over a folder of their own. Where it is asked for, what workers say to
/// the coordinator and what peers say to a worker goes through proxies that can disturb it.
/// </summary>
public sealed class TrainingCluster : IDisposable
{
    private readonly List<ClusterWorker> _workers = [];
    private readonly bool _proxied;
    private readonly IPAddress? _listen;
    private int _runs;

    /// <summary>Starts the Preprocessor and the coordinator.</summary>
    /// <param name="proxied">Put proxies before the coordinator and before every worker.</param>
    /// <param name="limit">Longest time for anything; null: 10 minutes.</param>
    /// <param name="listen">Where the proxies listen; null: loopback.</param>
    /// <param name="settings">Settings of all processes.</param>
    public TrainingCluster(bool proxied, TimeSpan? limit = null, IPAddress? listen = null, params (string Key, string Value)[] settings)
    {
        (_proxied, _listen) = (proxied, listen);
        Pipeline = new PipelineProcesses(authority: null, settings) { Limit = limit ?? TimeSpan.FromMinutes(10) };
        Pipeline.Start(workers: 0);
    }

    /// <summary>The processes.</summary>
    public PipelineProcesses Pipeline { get; }

    /// <summary>The workers, running or not.</summary>
    public IReadOnlyList<ClusterWorker> Workers => _workers;

    /// <summary>Makes everything as it should be: no disturbance, the coordinator and so many workers running.</summary>
    /// <param name="workers">How many; others are killed.</param>
    public void Restore(int workers)
    {
        while (_workers.Count < workers)
        {
            Add();
        }

        foreach (var process in new[] { Pipeline.Preprocessor, Pipeline.Coordinator }.Where(p => !p.IsRunning))
        {
            process.Start();
        }

        foreach (var (index, worker) in _workers.Index())
        {
            worker.Heal();
            if (index >= workers)
            {
                worker.Process.Kill();
            }
            else if (!worker.Process.IsRunning)
            {
                worker.Process.Start();
            }
            else
            {
                worker.Process.Signal("CONT");
            }
        }
    }

    /// <summary>Ends all workers, so that another cluster has the machine.</summary>
    public void Rest()
    {
        foreach (var worker in _workers)
        {
            worker.Process.Kill();
        }
    }

    /// <summary>Adds a worker, and does not start it.</summary>
    /// <param name="launcher">What stands before its command.</param>
    /// <param name="settings">Settings of its own.</param>
    public ClusterWorker Add(IReadOnlyList<string>? launcher = null, params (string Key, string Value)[] settings) => Add(launcher, null, settings);

    /// <summary>Adds a worker that listens elsewhere than on loopback, and does not start it.</summary>
    /// <param name="launcher">What stands before its command.</param>
    /// <param name="address">Where it listens; null: loopback.</param>
    /// <param name="settings">Settings of its own.</param>
    public ClusterWorker Add(IReadOnlyList<string>? launcher, IPAddress? address, params (string Key, string Value)[] settings)
    {
        FaultProxy? upstream = null, peers = null;
        if (_proxied)
        {
            upstream = new FaultProxy(new IPEndPoint(IPAddress.Loopback, Pipeline.Coordinator.Port), _listen);
            peers = new FaultProxy(new IPEndPoint(IPAddress.Loopback, 0), _listen);
            settings = [("Trainer__Endpoint", upstream.Address), ("Worker__Address", peers.Address), .. settings];
        }

        var process = Pipeline.AddWorker(launcher ?? [], address?.ToString() ?? "localhost", settings);
        if (peers is not null)
        {
            peers.Target = new IPEndPoint(address ?? IPAddress.Loopback, process.Port);
        }

        var worker = new ClusterWorker(process, upstream, peers);
        _workers.Add(worker);
        return worker;
    }

    /// <summary>Creates a run; returns its name.</summary>
    public async Task<string> CreateAsync(RunSpec spec) => (await Pipeline.CreateAsync($"run-{++_runs:D4}", spec)).Name;

    /// <summary>Waits until a run has done a step.</summary>
    public Task<Run> WaitForStepAsync(string run, long step) => Pipeline.WaitAsync(run, $"step {step}", r => r.Progress.Step >= step || IsTrained(r));

    /// <summary>Waits until training is over, takes its outcome, and ends the run there.</summary>
    public async Task<TrainingOutcome> FinishAsync(string run)
    {
        var record = await Pipeline.WaitAsync(run, "trained", IsTrained);
        if (record.State is not (State.Evaluating or State.Publishing or State.Succeeded))
        {
            throw new InvalidOperationException($"{run} did not train to its end.\n{Pipeline.Describe(record)}");
        }

        var outcome = await TrainingOutcome.ReadAsync(Pipeline, record);
        if (record.State == State.Evaluating)
        {
            // Nobody evaluates here.
            await Pipeline.Runs.CancelRunAsync(new CancelRunRequest { Name = run }, deadline: DateTime.UtcNow + Pipeline.Limit);
        }

        return outcome;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Pipeline.Dispose();
        foreach (var worker in _workers)
        {
            worker.Upstream?.Dispose();
            worker.Peers?.Dispose();
        }
    }

    /// <summary>Whether a run is past its training.</summary>
    public static bool IsTrained(Run run) => run.State is State.Evaluating or State.Publishing or State.Succeeded or State.Failed or State.Cancelled;
}

/// <summary>A worker of a cluster.</summary>
/// <param name="Process">Its process.</param>
/// <param name="Upstream">Between the worker and the coordinator: heartbeats and reports.</param>
/// <param name="Peers">Between peers and the worker: gradient streams and state copies that the worker answers.</param>
public sealed record ClusterWorker(ServiceProcess Process, FaultProxy? Upstream, FaultProxy? Peers)
{
    /// <summary>Ends every disturbance.</summary>
    public void Heal()
    {
        Upstream?.Heal();
        Peers?.Heal();
    }
}
