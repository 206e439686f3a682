using LlmPipeline.Faults;
using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Bench.Reliability;

/// <summary>Resident memory of processes that are killed and started again all the time.</summary>
internal sealed class MemoryWatch
{
    /// <summary>A process has loaded and compiled what it needs by then.</summary>
    private static readonly TimeSpan Settled = TimeSpan.FromSeconds(45);

    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(3);

    private readonly Lock _lock = new();
    private readonly Dictionary<(string Role, int Id), List<(DateTime Time, long Bytes)>> _lives = [];

    /// <summary>Samples until cancelled.</summary>
    /// <param name="processes">What runs now, with a role each.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public async Task RunAsync(Func<IEnumerable<(string Role, ServiceProcess Process)>> processes, CancellationToken cancellationToken)
    {
        while (!cancellationToken.IsCancellationRequested)
        {
            foreach (var (role, process) in processes())
            {
                if (process.IsRunning && process.ResidentBytes is var bytes and > 0)
                {
                    lock (_lock)
                    {
                        if (!_lives.TryGetValue((role, process.Id), out var life))
                        {
                            _lives[(role, process.Id)] = life = [];
                        }

                        life.Add((DateTime.UtcNow, bytes));
                    }
                }
            }

            await Task.Delay(Interval, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>
    /// How memory changed: the median of settled processes in the first and in the last third of the time, and the slope within the lives
    /// of single processes, all lives of the role pooled; null where no process lived long enough.
    /// </summary>
    public (double FirstMegabytes, double LastMegabytes, double MegabytesPerHour, int Lives)? Of(string role)
    {
        lock (_lock)
        {
            var lives = _lives.Where(l => l.Key.Role == role && l.Value.Count > 0)
                .Select(l => l.Value.Where(s => s.Time - l.Value[0].Time >= Settled).ToList()).Where(l => l.Count >= 5).ToList();
            var samples = lives.SelectMany(l => l).OrderBy(s => s.Time).ToList();
            if (samples.Count < 9)
            {
                return null;
            }

            var (begin, end) = (samples[0].Time, samples[^1].Time);
            double numerator = 0, denominator = 0;
            foreach (var life in lives)
            {
                var (hours, megabytes) = (life.Average(s => Hours(s.Time)), life.Average(s => s.Bytes / 1e6));
                numerator += life.Sum(s => (Hours(s.Time) - hours) * ((s.Bytes / 1e6) - megabytes));
                denominator += life.Sum(s => Math.Pow(Hours(s.Time) - hours, 2));
            }

            return (Median(samples.Where(s => s.Time <= begin + ((end - begin) / 3))), Median(samples.Where(s => s.Time >= end - ((end - begin) / 3))), numerator / denominator, lives.Count);

            double Hours(DateTime time) => (time - begin).TotalHours;
        }
    }

    private static double Median(IEnumerable<(DateTime Time, long Bytes)> samples) => Scenario.Median(samples.Select(s => s.Bytes / 1e6));
}
