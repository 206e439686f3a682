using LlmPipeline.Storage;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>The step metrics of all runs: of the one in training in memory, of a few others as they were asked for.</summary>
internal sealed class StepMetricsCatalog(IBlobStore store)
{
    private const int MaxCached = 4;

    private readonly AsyncLock _gate = new();
    private readonly List<StepMetricsLog> _cached = [];
    private StepMetricsLog? _active;

    /// <summary>The log of a run.</summary>
    public async Task<StepMetricsLog> GetAsync(string run, CancellationToken cancellationToken)
    {
        using (await _gate.EnterAsync(cancellationToken))
        {
            if (_active?.Run == run)
            {
                return _active;
            }

            var log = _cached.Find(l => l.Run == run) ?? await StepMetricsLog.OpenAsync(store, run, cancellationToken);
            _cached.Remove(log);
            _cached.Add(log);
            if (_cached.Count > MaxCached)
            {
                _cached.RemoveAt(0);
            }

            return log;
        }
    }

    /// <summary>Opens the log of the run that is worked on, from storage.</summary>
    public async Task<StepMetricsLog> ActivateAsync(string run, CancellationToken cancellationToken)
    {
        using (await _gate.EnterAsync(cancellationToken))
        {
            if (_active?.Run == run)
            {
                return _active;
            }

            _cached.RemoveAll(l => l.Run == run);
            return _active = await StepMetricsLog.OpenAsync(store, run, cancellationToken);
        }
    }
}
