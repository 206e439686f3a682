namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// Deals a step's micro-batches out to the members of an epoch: contiguous ranges in order of rank. It knows only what was
/// exchanged, so all members deal alike. A member whose state is still arriving gets none. With rebalancing, slower members get
/// fewer, down to none; one that got none is given a micro-batch now and then, to see whether it has recovered.
/// </summary>
/// <param name="size">Members.</param>
/// <param name="rebalance">Shares follow measured speed; else they are even.</param>
internal sealed class MicroBatchShares(int size, bool rebalance)
{
    /// <summary>What a member reports while its state is still arriving.</summary>
    public const float Arriving = -1;

    /// <summary>Measurements of a member whose median counts.</summary>
    private const int Window = 5;

    /// <summary>Measurements without which a member's speed is not known: the first ones take longer than what follows.</summary>
    private const int LeastMeasurements = 4;

    /// <summary>Shares change when a step is expected to take less than this part of the time.</summary>
    private const double WorthChanging = 0.9;

    /// <summary>Steps between changes, so that what the last one brought is seen first.</summary>
    private const long Interval = 4;

    private const int FirstProbe = 32;
    private const int LongestProbe = 512;

    private readonly bool[] _arriving = new bool[size];
    private readonly Queue<double>[] _reports = [.. Enumerable.Range(0, size).Select(_ => new Queue<double>())];
    private readonly double[] _seconds = new double[size];
    private readonly long[] _measured = new long[size];
    private readonly int[] _probe = [.. Enumerable.Repeat(FirstProbe, size)];
    private int[] _counts = new int[size];
    private long _changed;
    private int _probed = -1;

    /// <summary>Micro-batches of a step.</summary>
    public int MicroBatches => _counts.Sum();

    /// <summary>Whether a member's state is still arriving.</summary>
    public bool IsArriving(int rank) => _arriving[rank];

    /// <summary>Whether the state of any member is still arriving.</summary>
    public bool AnyArriving => _arriving.Contains(true);

    /// <summary>Micro-batches of each rank.</summary>
    public IReadOnlyList<int> Counts => _counts;

    /// <summary>Begins anew, with nothing measured.</summary>
    /// <param name="microBatches">Micro-batches of a step.</param>
    /// <param name="arriving">Members whose state is still arriving.</param>
    public void Begin(int microBatches, bool[] arriving)
    {
        for (var rank = 0; rank < size; rank++)
        {
            (_arriving[rank], _seconds[rank], _measured[rank], _probe[rank]) = (arriving[rank], 0, 0, FirstProbe);
            _reports[rank].Clear();
        }

        (_changed, _probed) = (0, -1);
        _counts = Deal(microBatches);
    }

    /// <summary>The range that a rank computes.</summary>
    public (int Begin, int End) Of(int rank) => Range(_counts, rank);

    /// <summary>The range of a rank when something else of as many parts is dealt out by the same measure.</summary>
    public (int Begin, int End) Of(int rank, int parts) => Range(Deal(parts), rank);

    /// <summary>Takes what the members reported in the exchange of a step, and deals for the next one.</summary>
    /// <param name="step">The step.</param>
    /// <param name="reports">Of each rank: seconds a micro-batch, 0 when it computed none, <see cref="Arriving"/>.</param>
    public void Observe(long step, ReadOnlySpan<float> reports)
    {
        var arrived = false;
        for (var rank = 0; rank < size; rank++)
        {
            var report = reports[rank];
            arrived |= _arriving[rank] != report < 0;
            _arriving[rank] = report < 0;
            if (!(report > 0))
            {
                continue;
            }

            if (rank == _probed)
            {
                _probe[rank] = report < _seconds[rank] / 2 ? FirstProbe : Math.Min(2 * _probe[rank], LongestProbe);
                _reports[rank].Clear();
            }

            Measure(rank, report);
            _measured[rank] = step;
        }

        var microBatches = MicroBatches;
        if (_probed >= 0)
        {
            (_probed, _changed) = (-1, 0);
            _counts = Deal(microBatches);
        }
        else if (arrived)
        {
            _changed = step;
            _counts = Deal(microBatches);
        }
        else if (rebalance && step - _changed >= Interval)
        {
            var dealt = Deal(microBatches);
            if (Longest(dealt) < WorthChanging * Longest(_counts))
            {
                (_counts, _changed) = (dealt, step);
            }
        }

        if (rebalance)
        {
            Probe(step);
        }
    }

    private void Measure(int rank, float report)
    {
        var reports = _reports[rank];
        if (reports.Count == Window)
        {
            reports.Dequeue();
        }

        reports.Enqueue(report);
        if (reports.Count >= LeastMeasurements || rank == _probed)
        {
            _seconds[rank] = reports.Order().ElementAt((reports.Count - 1) / 2);
        }
    }

    private void Probe(long step)
    {
        for (var rank = 0; rank < size; rank++)
        {
            if (_counts[rank] == 0 && !_arriving[rank] && _measured[rank] > 0 && step - _measured[rank] >= _probe[rank])
            {
                var giver = Array.IndexOf(_counts, _counts.Max());
                _counts = [.. _counts];
                _counts[giver]--;
                _counts[rank]++;
                _probed = rank;
                return;
            }
        }
    }

    /// <summary>Each part goes to the member that would be done with it first; of equals, to the one with the lowest rank.</summary>
    private int[] Deal(int parts)
    {
        var counts = new int[size];
        var present = Enumerable.Range(0, size).Where(rank => !_arriving[rank]).ToArray();
        if (!rebalance || present.All(rank => _seconds[rank] == 0))
        {
            for (var i = 0; i < present.Length; i++)
            {
                counts[present[i]] = (int)(((long)(i + 1) * parts / present.Length) - ((long)i * parts / present.Length));
            }

            return counts;
        }

        for (var part = 0; part < parts; part++)
        {
            counts[present.MinBy(rank => (counts[rank] + 1) * Seconds(rank))]++;
        }

        return counts;
    }

    private double Longest(int[] counts) => Enumerable.Range(0, size).Max(rank => counts[rank] * Seconds(rank));

    /// <summary>Seconds a micro-batch takes a member; as long as it is not known, the median of the others.</summary>
    private double Seconds(int rank)
    {
        if (_seconds[rank] > 0)
        {
            return _seconds[rank];
        }

        double[] known = [.. _seconds.Where(s => s > 0).Order()];
        return known.Length == 0 ? 1 : known[known.Length / 2];
    }

    private static (int Begin, int End) Range(int[] counts, int rank)
    {
        var begin = counts.AsSpan(0, rank).ToArray().Sum();
        return (begin, begin + counts[rank]);
    }
}
