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

    /// <summary>What a fault cost: how long no step came, and how many steps were done again.</summary>
    /// <param name="from">The moment of the fault.</param>
    /// <param name="to">The moment of the next one.</param>
    public (double PauseSeconds, int StepsRepeated) CostOf(DateTime from, DateTime to)
    {
        lock (_lock)
        {
            var pause = 0.0;
            var last = _seen.Where(s => s.Time <= from).Select(s => s.Time).DefaultIfEmpty(from).Max();
            foreach (var (time, _) in _seen.Where(s => s.Time > from))
            {
                pause = Math.Max(pause, (time - last).TotalSeconds);
                last = time;
                if (time >= to)
                {
                    break;
                }
            }

            var before = _seen.Where(s => s.Time <= from).Select(s => s.Step).ToHashSet();
            return (pause, _seen.Where(s => s.Time > from && s.Time <= to).Select(s => s.Step).Distinct().Count(before.Contains));
        }
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
