using Grpc.Core;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Bench.Reliability;

/// <summary>Sees every step of a run as it is reported, so that one that is done again is seen twice.</summary>
internal sealed class StepWatch
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);

    private readonly Lock _lock = new();
    private readonly SortedSet<(DateTime Time, long Step)> _seen = [];

    /// <summary>When the last new step was seen, by this process's clock.</summary>
    public DateTime LastProgress { get; private set; } = DateTime.UtcNow;

    /// <summary>Watches until cancelled; a coordinator that does not answer is asked again.</summary>
    public async Task RunAsync(RunService.RunServiceClient runs, string run, CancellationToken cancellationToken)
    {
        while (!cancellationToken.IsCancellationRequested)
        {
            try
            {
                long after = 0;
                lock (_lock)
                {
                    // Some steps back, because a run that goes back to a checkpoint reports them again.
                    after = Math.Max(0, (_seen.Count > 0 ? _seen.Max.Step : 0) - 120);
                }

                var metrics = (await runs.ListStepMetricsAsync(new ListStepMetricsRequest { Name = run, AfterStep = after, PageSize = 10_000 },
                    deadline: DateTime.UtcNow.AddSeconds(5), cancellationToken: cancellationToken)).Metrics;
                lock (_lock)
                {
                    foreach (var step in metrics)
                    {
                        if (_seen.Add((step.Time.ToDateTime(), step.Step)))
                        {
                            LastProgress = DateTime.UtcNow;
                        }
                    }
                }
            }
            catch (RpcException)
            {
                // Killed, or not there yet.
            }

            await Task.Delay(Interval, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>
    /// What faults cost: the longest time between two steps in a row, and how many steps were done again, counted where a step of a lower
    /// number follows. Both go to the first fault between the two steps, or else to the last one before them. A step that another rank 0
    /// reports once more has that worker's time, but stays in its place.
    /// </summary>
    /// <param name="moments">The moments of the faults, in order.</param>
    public IReadOnlyList<(double PauseSeconds, int StepsRepeated)> CostsOf(IReadOnlyList<DateTime> moments)
    {
        var costs = new (double PauseSeconds, int StepsRepeated)[moments.Count];
        lock (_lock)
        {
            foreach (var (before, after) in _seen.Zip(_seen.Skip(1)))
            {
                var between = moments.Index().Where(m => m.Item > before.Time && m.Item <= after.Time).Select(m => m.Index).DefaultIfEmpty(-1).First();
                var fault = between >= 0 ? between : moments.Index().Where(m => m.Item <= before.Time).Select(m => m.Index).DefaultIfEmpty(-1).Last();
                if (fault >= 0)
                {
                    costs[fault] = (Math.Max(costs[fault].PauseSeconds, (after.Time - before.Time).TotalSeconds), costs[fault].StepsRepeated + (after.Step < before.Step ? (int)(before.Step - after.Step + 1) : 0));
                }
            }
        }

        return costs;
    }

    /// <summary>Median seconds between two steps.</summary>
    public double MedianStepSeconds()
    {
        lock (_lock)
        {
            var gaps = _seen.Zip(_seen.Skip(1), (a, b) => (b.Time - a.Time).TotalSeconds).Order().ToList();
            return gaps.Count == 0 ? 0 : gaps[gaps.Count / 2];
        }
    }
}
