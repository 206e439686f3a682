using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Workers.V1;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// A worker: heartbeats and reports as tasks, torch on one thread of its own. The process exits between two steps, after
/// telling the coordinator.
/// </summary>
internal sealed partial class WorkerService(
    IConfiguration configuration, IOptions<WorkerOptions> options, CoordinatorService.CoordinatorServiceClient coordinator, IBlobStore store, DatasetSource datasets,
    RingRegistry registry, ReplicaHolder holder, TrainerMetrics metrics, PeerConnections connections, IHostApplicationLifetime lifetime, ILogger<WorkerService> logger) : BackgroundService
{
    /// <summary>How long state is kept for a coordinator that has nothing to do for this worker.</summary>
    private static readonly TimeSpan KeepState = TimeSpan.FromSeconds(30);

    private static readonly TimeSpan PrepareAgain = TimeSpan.FromSeconds(10);

    /// <summary>How long a step may last when the process is to exit.</summary>
    private static readonly TimeSpan LeaveTime = TimeSpan.FromSeconds(7);

    private readonly WorkerControl _control = new();

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        // The web server stops before this service and waits for open gradient streams: leave as soon as stopping begins.
        stoppingToken = lifetime.ApplicationStopping;

        // Peers dial this process as soon as the coordinator knows of it: not before it listens.
        var started = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var listening = lifetime.ApplicationStarted.Register(() => started.TrySetResult());
        await started.Task.WaitAsync(stoppingToken);
        using var leave = lifetime.ApplicationStopping.Register(_control.Exit);

        var name = configuration["OTEL_SERVICE_NAME"] is { Length: > 0 } service ? service : Environment.MachineName.ToLowerInvariant();
        var identity = new TaskCompletionSource<WorkerIdentity>(TaskCreationOptions.RunContinuationsAsynchronously);
        var workerId = $"{name}-{Guid.NewGuid().ToString("N")[..6]}";
        var reporter = new ProgressReporter(coordinator, workerId, logger);
        var computing = RunOnThread(() => Compute(workerId, identity, reporter, stoppingToken));
        await Task.WhenAny(identity.Task, computing);
        if (!identity.Task.IsCompletedSuccessfully)
        {
            await computing;
            return;
        }

        using var stop = new CancellationTokenSource();
        var link = new CoordinatorLink(coordinator, await identity.Task, _control, options.Value.HeartbeatMilliseconds, logger);
        var beating = link.RunAsync(stop.Token);
        var reporting = reporter.RunAsync(stop.Token);
        try
        {
            var left = Task.Delay(Timeout.InfiniteTimeSpan, stoppingToken).ContinueWith(_ => Task.Delay(LeaveTime), TaskScheduler.Default).Unwrap();
            if (await Task.WhenAny(computing, left) == computing)
            {
                await computing;
            }
            else
            {
                // It is within one micro-batch, which nothing can interrupt: the others repeat the step.
                LogAbandoned(workerId);
                registry.Abort();
            }
        }
        finally
        {
            using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(1));
            await reporter.FlushAsync(timeout.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await stop.CancelAsync();
            await Task.WhenAll(beating, reporting).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await link.SayAsync();
            LogLeft(workerId);
        }
    }

    private void Compute(string workerId, TaskCompletionSource<WorkerIdentity> identity, ProgressReporter reporter, CancellationToken stoppingToken)
    {
        TorchRuntime.Initialize(configuration.GetSection(TorchRuntimeOptions.Section).Get<TorchRuntimeOptions>());
        var device = TorchRuntime.ResolveDevice(options.Value.Device);
        var address = options.Value.Address ?? $"{(TlsCertificates.IsConfigured(configuration) ? "https" : "http")}://localhost:{configuration["GRPC_PORT"]
            ?? throw new InvalidOperationException("A worker needs GRPC_PORT, or Worker:Address: the URL that its peers dial.")}";
        identity.SetResult(new WorkerIdentity(workerId, address, device.ToString(), TorchRuntime.Fingerprint, ControlGroup.MemoryKills()));
        LogReady(workerId, address, device.ToString(), TorchRuntime.Fingerprint);

        using var runner = new EpochRunner(store, datasets, registry, holder, _control, reporter, metrics, device, connections, new OwnText(options.Value.Dataset), logger);
        long epoch = 0;
        while (WaitForPlan(epoch, runner, stoppingToken) is { } plan)
        {
            epoch = plan.Epoch;
            if (plan.Rank < 0)
            {
                epoch = Prepare(plan, runner, stoppingToken);
                continue;
            }

            reporter.Begin(plan);
            try
            {
                var outcome = runner.Run(plan, _control.Act(plan), stoppingToken);
                LogEpochOver(epoch, outcome);
            }
            catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
            {
                return;
            }
            catch (RingBrokenException exception)
            {
                LogBroken(exception, epoch);
                Fail(plan, exception.Message, exception.SuspectRank, null);
            }
            catch (FatalTrainingException exception)
            {
                LogFatal(exception, plan.Run, exception.Reason);
                Fail(plan, exception.Message, -1, new RunError { Reason = exception.Reason, Message = exception.Message });
                runner.Release();
            }
            catch (Exception exception)
            {
                // Storage or a peer failed in a way that may pass: try again with the next epoch, not at once.
                LogBroken(exception, epoch);
                stoppingToken.WaitHandle.WaitOne(TimeSpan.FromSeconds(1));
                Fail(plan, exception.Message, -1, null);
            }
            finally
            {
                _control.Rest();
            }
        }
    }

    /// <summary>Prepares for a later epoch; returns the epoch that is dealt with, which is an older one when it failed and is to be tried again.</summary>
    private long Prepare(EpochPlan plan, EpochRunner runner, CancellationToken stoppingToken)
    {
        try
        {
            runner.Prepare(plan, stoppingToken);
            LogPrepared(plan.Run);
            _control.Prepared();
            return plan.Epoch;
        }
        catch (Exception) when (stoppingToken.IsCancellationRequested)
        {
            return plan.Epoch;
        }
        catch (Exception exception)
        {
            LogUnprepared(exception, plan.Run, PrepareAgain.TotalSeconds);
            runner.Release();
            Fail(plan, exception.Message, -1, null);
            if (_control.NextPlan(plan.Epoch, out var changed) is null)
            {
                Task.WhenAny(changed, Task.Delay(PrepareAgain, stoppingToken)).GetAwaiter().GetResult();
            }

            return plan.Epoch - 1;
        }
    }

    /// <summary>Waits for a plan newer than <paramref name="after"/>, or for that one again once all is released; null when the process exits.</summary>
    private EpochPlan? WaitForPlan(long after, EpochRunner runner, CancellationToken stoppingToken)
    {
        var before = after - 1;
        while (!stoppingToken.IsCancellationRequested)
        {
            if (_control.NextPlan(after, out var changed) is { } plan)
            {
                return plan;
            }

            try
            {
                if (!changed.Wait(KeepState, stoppingToken) && !_control.HasPlan)
                {
                    runner.Release();
                    after = before;
                }
            }
            catch (OperationCanceledException)
            {
                return null;
            }
        }

        return null;
    }

    private void Fail(EpochPlan plan, string message, int suspect, RunError? fatal) => _control.Fail(new EpochFailure
    {
        Epoch = plan.Epoch,
        SuspectWorkerId = suspect >= 0 ? plan.Members[suspect].WorkerId : "",
        Message = message,
        Fatal = fatal,
    });

    private static Task RunOnThread(Action action)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var thread = new Thread(() =>
        {
            try
            {
                action();
                done.SetResult();
            }
            catch (Exception exception)
            {
                done.SetException(exception);
            }
        })
        { IsBackground = true, Name = "compute" };
        thread.Start();
        return done.Task;
    }

    [LoggerMessage(2540, LogLevel.Information, "Worker {WorkerId} at {Address} computes on {Device} ({Fingerprint}).")]
    private partial void LogReady(string workerId, string address, string device, string fingerprint);

    [LoggerMessage(2541, LogLevel.Information, "Epoch {Epoch} is over: {Outcome}.")]
    private partial void LogEpochOver(long epoch, LoopOutcome outcome);

    [LoggerMessage(2542, LogLevel.Warning, "Epoch {Epoch} broke; the worker keeps its last whole step and waits for a new epoch.")]
    private partial void LogBroken(Exception exception, long epoch);

    [LoggerMessage(2546, LogLevel.Information, "Prepared to take part in {Run}.")]
    private partial void LogPrepared(string run);

    [LoggerMessage(2547, LogLevel.Warning, "The worker cannot prepare to take part in {Run}; it tries again after {Seconds} s, or when there is news.")]
    private partial void LogUnprepared(Exception exception, string run, double seconds);

    [LoggerMessage(2543, LogLevel.Error, "{Run} cannot go on: {Reason}.")]
    private partial void LogFatal(Exception exception, string run, string reason);

    [LoggerMessage(2545, LogLevel.Warning, "Worker {WorkerId} leaves in the middle of a step, which takes too long to be waited for.")]
    private partial void LogAbandoned(string workerId);

    [LoggerMessage(2544, LogLevel.Information, "Worker {WorkerId} has left.")]
    private partial void LogLeft(string workerId);
}
