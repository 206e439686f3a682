using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>
/// Waits for the coordinator's lease, reads the runs back, and works on one after the other: first those that were begun,
/// then in order of creation. A coordinator that loses its lease exits, so that two never write.
/// </summary>
internal sealed partial class RunEngine(
    IBlobStore store, RunCatalog runs, RunStages stages, EpochManager epochs, EpochCounter counter, TimeProvider time,
    IHostApplicationLifetime lifetime, ILogger<RunEngine> logger) : BackgroundService
{
    /// <summary>What the coordinator holds a lease on.</summary>
    public const string LeaseName = "coordinator";

    private static readonly TimeSpan LeaseDuration = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan RenewInterval = TimeSpan.FromSeconds(4);
    private static readonly TimeSpan StandbyInterval = TimeSpan.FromSeconds(1);

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var working = CancellationTokenSource.CreateLinkedTokenSource(stoppingToken);
        try
        {
            await using var lease = await AcquireAsync(stoppingToken);
            var renewing = RenewAsync(lease, working);
            try
            {
                await WorkAsync(working.Token);
            }
            finally
            {
                runs.Close();
                await working.CancelAsync();
                await renewing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
        catch (OperationCanceledException) when (working.IsCancellationRequested)
        {
        }
        catch (BlobConditionException exception)
        {
            LogOtherWriter(exception);
            Exit();
        }
    }

    private async Task WorkAsync(CancellationToken stopping)
    {
        epochs.Open(await counter.NextAsync(stopping));
        await runs.OpenAsync(stopping);
        var left = runs.Records.All.Select(r => r.Value).Where(r => r.State != State.Queued && !RunStates.IsTerminal(r.State)).Select(IdOf).ToHashSet();
        while (true)
        {
            var changed = runs.Changed.Next;
            if (Next() is not { } run)
            {
                epochs.SetJob(null);
                await changed.WaitAsync(stopping);
                continue;
            }

            // Workers are not told to let go of a run that is being trained.
            if (run.State is not (State.Training or State.Cancelling))
            {
                epochs.SetJob(null);
            }

            var id = IdOf(run);
            runs.ActiveId = id;
            var restarted = left.Remove(id);
            if (restarted)
            {
                await runs.AddEventAsync(id, RunEvents.CoordinatorRestarted, $"The coordinator was restarted; the run goes on with {RunStates.NameOf(run.State)}.");
            }

            await stages.RunAsync(id, restarted, stopping);
            runs.ActiveId = null;
        }
    }

    private Run? Next() => runs.Records.All.Select(r => r.Value).Where(r => !RunStates.IsTerminal(r.State))
        .OrderBy(r => r.State == State.Queued).ThenBy(r => r.CreateTime?.ToDateTimeOffset()).ThenBy(r => r.Name, StringComparer.Ordinal).FirstOrDefault();

    private static string IdOf(Run run) => ResourceName.IdOf(run.Name, "runs");

    private async Task<IBlobLease> AcquireAsync(CancellationToken stopping)
    {
        var told = false;
        while (true)
        {
            try
            {
                if (await store.TryAcquireLeaseAsync(LeaseName, LeaseDuration, stopping) is { } lease)
                {
                    LogActive();
                    return lease;
                }

                if (!told)
                {
                    LogStandby();
                    told = true;
                }
            }
            catch (Exception exception) when (StorageFailure.Is(exception))
            {
                LogNoStorage(exception);
            }

            await Task.Delay(StandbyInterval, time, stopping);
        }
    }

    private async Task RenewAsync(IBlobLease lease, CancellationTokenSource working)
    {
        var renewed = time.GetTimestamp();
        while (!working.IsCancellationRequested)
        {
            await Task.Delay(RenewInterval, time, working.Token);
            try
            {
                var asked = time.GetTimestamp();

                // Storage that is silent must not keep this coordinator in charge.
                var left = (LeaseDuration - RenewInterval - time.GetElapsedTime(renewed)).TotalSeconds;
                if (await lease.RenewAsync(working.Token).WaitAsync(TimeSpan.FromSeconds(Math.Max(1, Math.Ceiling(left))), time, working.Token))
                {
                    renewed = asked;
                    continue;
                }

                renewed = 0;
            }
            catch (Exception exception) when (!working.IsCancellationRequested)
            {
                LogNotRenewed(exception);
            }

            if (renewed == 0 || time.GetElapsedTime(renewed) >= LeaseDuration - RenewInterval)
            {
                LogLost();
                await working.CancelAsync();
                Exit();
            }
        }
    }

    private void Exit()
    {
        Environment.ExitCode = 1;
        lifetime.StopApplication();
    }

    [LoggerMessage(2030, LogLevel.Information, "This coordinator holds the lease and is in charge.")]
    private partial void LogActive();

    [LoggerMessage(2031, LogLevel.Warning, "Another coordinator holds the lease; this one stands by and takes over at most 15 s after the other is gone.")]
    private partial void LogStandby();

    [LoggerMessage(2032, LogLevel.Warning, "The coordinator's lease could not be renewed; trying again.")]
    private partial void LogNotRenewed(Exception exception);

    [LoggerMessage(2033, LogLevel.Critical, "The coordinator's lease is lost; this process exits, so that two never write.")]
    private partial void LogLost();

    [LoggerMessage(2034, LogLevel.Critical, "Another process wrote a record of this coordinator; this process exits, so that two never write.")]
    private partial void LogOtherWriter(Exception exception);

    [LoggerMessage(2035, LogLevel.Warning, "Storage does not give the coordinator its lease; trying again.")]
    private partial void LogNoStorage(Exception exception);
}
