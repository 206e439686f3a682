using System.Text.Json.Nodes;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Grpc.Net.Client;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Tests.Coordinator;

/// <summary>
/// Workers that speak the worker protocol and compute nothing: rank 0 takes steps up to <see cref="Limit"/>, the others have
/// them as well at once. Checkpoints are real directories.
/// </summary>
internal sealed class FakeWorkers(string coordinator, IBlobStore store) : IAsyncDisposable
{
    private readonly Lock _lock = new();
    private readonly List<FakeWorker> _workers = [];
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _limit = long.MaxValue;

    public string Coordinator => coordinator;

    public IBlobStore Store => store;

    /// <summary>No worker steps beyond this one.</summary>
    public long Limit
    {
        get => Interlocked.Read(ref _limit);
        set
        {
            Interlocked.Exchange(ref _limit, value);
            Notify();
        }
    }

    /// <summary>Plans that were taken up, in order.</summary>
    public List<(string Worker, EpochPlan Plan)> Plans { get; } = [];

    public FakeWorker Start(string id)
    {
        var worker = new FakeWorker(this, id);
        lock (_lock)
        {
            _workers.Add(worker);
        }

        return worker;
    }

    public void Taken(string worker, EpochPlan plan)
    {
        lock (_lock)
        {
            Plans.Add((worker, plan));
        }

        Notify();
    }

    /// <summary>Steps of the members that are there, moved on together.</summary>
    public void Step(EpochPlan plan, long step)
    {
        lock (_lock)
        {
            foreach (var worker in _workers.Where(w => !w.IsKilled && w.Epoch == plan.Epoch))
            {
                worker.Held = new WorkerState { Run = plan.Run, Attempt = plan.Attempt, Step = step };
            }
        }
    }

    public bool AllAreIn(EpochPlan plan)
    {
        lock (_lock)
        {
            return plan.Members.All(m => _workers.Any(w => w.Id == m.WorkerId && !w.IsKilled && w.Epoch == plan.Epoch));
        }
    }

    public Task Changed
    {
        get
        {
            lock (_lock)
            {
                return _changed.Task;
            }
        }
    }

    public void Notify()
    {
        lock (_lock)
        {
            _changed.TrySetResult();
            _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var worker in _workers)
        {
            await worker.KillAsync();
            worker.Dispose();
        }
    }
}

/// <summary>One of them.</summary>
internal sealed class FakeWorker : IDisposable
{
    private readonly FakeWorkers _cluster;
    private readonly CancellationTokenSource _killed = new();
    private readonly GrpcChannel _channel;
    private readonly CoordinatorService.CoordinatorServiceClient _client;
    private readonly Task _beating;
    private readonly Task _working;
    private CancellationTokenSource _urgent = new();
    private volatile Assignment? _assignment;
    private volatile EpochFailure? _failure;

    public FakeWorker(FakeWorkers cluster, string id)
    {
        (_cluster, Id) = (cluster, id);
        _channel = GrpcChannel.ForAddress(cluster.Coordinator, new GrpcChannelOptions { MaxReconnectBackoff = TimeSpan.FromMilliseconds(200), InitialReconnectBackoff = TimeSpan.FromMilliseconds(50) });
        _client = new CoordinatorService.CoordinatorServiceClient(_channel);
        _beating = Task.Run(BeatAsync);
        _working = Task.Run(WorkAsync);
    }

    public string Id { get; }

    public bool IsKilled => _killed.IsCancellationRequested;

    /// <summary>The epoch it acts in.</summary>
    public long Epoch { get; private set; }

    /// <summary>The state it holds.</summary>
    public WorkerState? Held { get; set; }

    /// <summary>Loss of a step, the same whoever computes it.</summary>
    public static double LossOf(long step) => 4 / (1 + (0.1 * step));

    public async Task KillAsync()
    {
        await _killed.CancelAsync();
        _cluster.Notify();
        await Task.WhenAll(_beating, _working).WaitAsync(TinyRun.Timeout);
        _channel.Dispose();
    }

    public void Dispose()
    {
        _killed.Dispose();
        _urgent.Dispose();
    }

    /// <summary>Says that the present epoch broke.</summary>
    public void Fail(string suspect, RunError? fatal = null)
    {
        _failure = new EpochFailure { Epoch = Epoch, SuspectWorkerId = suspect, Message = "the connection was reset", Fatal = fatal };
        _urgent.Cancel();
    }

    public Task<ReportProgressResponse> ReportAsync(ReportProgressRequest request) =>
        _client.ReportProgressAsync(request, cancellationToken: _killed.Token).ResponseAsync;

    private async Task BeatAsync()
    {
        while (!IsKilled)
        {
            _urgent = new CancellationTokenSource();
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(_killed.Token, _urgent.Token);
            try
            {
                var answer = await _client.HeartbeatAsync(new HeartbeatRequest
                {
                    WorkerId = Id,
                    Address = $"http://{Id}",
                    Device = "cpu",
                    SeenAssignment = _assignment?.Version ?? 0,
                    State = Held,
                    Failure = _failure,
                    MaxWaitMilliseconds = _failure is null ? 300 : 50,
                }, cancellationToken: stop.Token);
                if (answer.Assignment is { } assignment && assignment.Version != _assignment?.Version)
                {
                    _assignment = assignment;
                    if (assignment.Epoch?.Epoch > _failure?.Epoch)
                    {
                        _failure = null;
                    }

                    _cluster.Notify();
                }
            }
            catch (RpcException)
            {
                await Task.Delay(20);
            }
        }
    }

    private async Task WorkAsync()
    {
        var prepared = 0L;
        while (!IsKilled)
        {
            var changed = _cluster.Changed;
            if (_assignment?.Epoch is not { } plan || plan.Epoch <= Math.Max(Epoch, prepared))
            {
                Held = _assignment is { Epoch: null } ? null : Held;
                await Task.WhenAny(changed, Task.Delay(50));
                continue;
            }

            if (plan.Rank < 0)
            {
                prepared = plan.Epoch;
                Held = new WorkerState { Run = plan.Run, Attempt = plan.Attempt, Step = -1 };
                await _urgent.CancelAsync();
                continue;
            }

            if (plan.SourceRank < 0 || Held is null || Held.Run != plan.Run || Held.Attempt != plan.Attempt || Held.Step < plan.StartStep)
            {
                Held = new WorkerState { Run = plan.Run, Attempt = plan.Attempt, Step = plan.StartStep };
            }

            Epoch = plan.Epoch;
            _cluster.Taken(Id, plan);
            if (plan.Rank == 0)
            {
                await StepAsync(plan);
            }
        }
    }

    private async Task StepAsync(EpochPlan plan)
    {
        var training = plan.Spec.Training;
        while (!IsKilled && _assignment?.Epoch?.Epoch == plan.Epoch && _failure is null)
        {
            var changed = _cluster.Changed;
            if (!_cluster.AllAreIn(plan))
            {
                await Task.WhenAny(changed, Task.Delay(20));
                continue;
            }

            var step = Held!.Step;
            var last = step >= training.Steps || _assignment.Epoch.Cancel;
            if (!last && step >= _cluster.Limit)
            {
                await Task.WhenAny(changed, Task.Delay(20));
                continue;
            }

            var request = new ReportProgressRequest { WorkerId = Id, Epoch = plan.Epoch, Run = plan.Run, TrainSeconds = step * 0.01 };
            if (!last)
            {
                step++;
                _cluster.Step(plan, step);
                var metrics = new StepMetrics
                {
                    Step = step,
                    TrainLoss = LossOf(step),
                    TokenCount = step * 8,
                    LearningRate = 1e-3,
                    GradientNorm = 1,
                    StepSeconds = 0.01,
                    WorkerCount = plan.Members.Count,
                    Time = Timestamp.FromDateTime(DateTime.UtcNow),
                };
                if (step % training.ValidationInterval == 0 || step == training.Steps)
                {
                    metrics.ValidationLoss = LossOf(step);
                }

                request.Metrics.Add(metrics);
            }

            if (step > 0 && (last || step % training.CheckpointInterval == 0))
            {
                request.Checkpoint = ResourceName.Checkpoint(plan.Run, step);
                request.CheckpointValidationLoss = LossOf(step);
                await SaveAsync(_cluster.Store, plan.Run, step);
            }

            request.Finished = last;
            try
            {
                await ReportAsync(request);
                if (last)
                {
                    return;
                }
            }
            catch (RpcException) when (!IsKilled)
            {
                // The report is lost; the step counts, and comes again with the next epoch's history in the real worker.
                await Task.Delay(20);
                if (last && _assignment?.Epoch?.Epoch == plan.Epoch)
                {
                    continue;
                }
            }
            catch (RpcException)
            {
                return;
            }
        }
    }

    /// <summary>Commits a checkpoint of a real, tiny network.</summary>
    public static async Task SaveAsync(IBlobStore store, string run, long step)
    {
        var directory = store.CreateDirectory(ResourceName.Checkpoint(run, step));
        foreach (var (file, bytes) in TinyModelFiles.All.Value)
        {
            await directory.WriteAsync(file, (stream, token) => stream.WriteAsync(bytes, token).AsTask());
        }

        await directory.CommitAsync(new JsonObject { ["step"] = step, ["validation_loss"] = LossOf(step) });
    }
}
