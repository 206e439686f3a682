using System.Globalization;
using System.Text;
using Google.Protobuf;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>
/// The numbers of a run's steps, in memory and as JSON lines in <c>runs/{r}/metrics/{first step}.jsonl</c>. A segment is
/// written again while it grows; from <see cref="SegmentSteps"/> steps on, the next one begins.
/// </summary>
internal sealed class StepMetricsLog
{
    /// <summary>Steps after which a segment is full.</summary>
    public const int SegmentSteps = 2000;

    private readonly IBlobStore _store;
    private readonly string _run;
    private readonly Lock _lock = new();
    private readonly AsyncLock _committing = new();
    private readonly List<StepMetrics> _steps = [];
    private readonly List<long> _segments = [];
    private readonly SortedSet<long> _dirty = [];
    private readonly SortedSet<long> _gone = [];
    private readonly Dictionary<long, string> _eTags = [];
    private readonly Dictionary<long, string> _doubtful = [];

    private StepMetricsLog(IBlobStore store, string run) => (_store, _run) = (store, run);

    /// <summary>Format: <c>runs/{r}</c>.</summary>
    public string Run => _run;

    /// <summary>Steps that are in memory only.</summary>
    public int UncommittedCount { get; private set; }

    /// <summary>The newest step; null before the first.</summary>
    public StepMetrics? Last
    {
        get
        {
            lock (_lock)
            {
                return _steps.Count > 0 ? _steps[^1] : null;
            }
        }
    }

    /// <summary>Reads what is stored. A line that cannot be read is left out.</summary>
    public static async Task<StepMetricsLog> OpenAsync(IBlobStore store, string run, CancellationToken cancellationToken)
    {
        var log = new StepMetricsLog(store, run);
        var names = new List<(long First, string Name)>();
        await foreach (var blob in store.ListAsync($"{run}/metrics/", cancellationToken))
        {
            var file = blob.Name[(blob.Name.LastIndexOf('/') + 1)..];
            if (file.EndsWith(".jsonl", StringComparison.Ordinal) && long.TryParse(file[..^6], NumberStyles.None, CultureInfo.InvariantCulture, out var first))
            {
                names.Add((first, blob.Name));
            }
        }

        foreach (var (first, name) in names.Order())
        {
            if (await store.TryReadTextAsync(name, cancellationToken) is not (var text, var eTag))
            {
                continue;
            }

            log._eTags[first] = eTag;
            if (text.Length == 0)
            {
                continue;
            }

            log._segments.Add(first);
            foreach (var line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            {
                try
                {
                    log.Put(StoredMessages.Parser.Parse<StepMetrics>(line));
                }
                catch (Exception exception) when (exception is InvalidProtocolBufferException or InvalidJsonException)
                {
                }
            }
        }

        return log;
    }

    /// <summary>Adds steps; one that is there already is replaced. Returns those that are new, or were not validated before.</summary>
    public IReadOnlyList<StepMetrics> Append(IEnumerable<StepMetrics> metrics)
    {
        var news = new List<StepMetrics>();
        lock (_lock)
        {
            foreach (var step in metrics.Where(m => m.Step > 0))
            {
                var previous = Put(step);
                if (previous is not null && previous.Equals(step))
                {
                    continue;
                }

                if (previous is null || (step.HasValidationLoss && !previous.HasValidationLoss))
                {
                    news.Add(step);
                }

                UncommittedCount++;
                if (_segments.Count == 0 || (step.Step > _segments[^1] && CountFrom(_segments[^1]) > SegmentSteps && !IsCovered(step.Step)))
                {
                    _segments.Add(step.Step);
                    _gone.Remove(step.Step);
                }

                _dirty.Add(SegmentOf(step.Step));
            }
        }

        return news;
    }

    /// <summary>A page of steps after a step, in order.</summary>
    public IReadOnlyList<StepMetrics> After(long step, int count)
    {
        lock (_lock)
        {
            var from = IndexOf(step + 1);
            return _steps.GetRange(from, Math.Min(count, _steps.Count - from));
        }
    }

    /// <summary>Steps no older than some seconds before the newest, by the clock of the workers.</summary>
    public IReadOnlyList<StepMetrics> Recent(double seconds)
    {
        lock (_lock)
        {
            if (_steps.Count == 0 || _steps[^1].Time is not { } newest)
            {
                return [];
            }

            var from = _steps.Count - 1;
            while (from > 0 && _steps.Count - from < 5000 && _steps[from - 1].Time is { } time && (newest - time).ToTimeSpan().TotalSeconds <= seconds)
            {
                from--;
            }

            return _steps.GetRange(from, _steps.Count - from);
        }
    }

    /// <summary>Drops all steps after one, in memory and in storage. Where storage fails, the next <see cref="CommitAsync"/> goes on with it.</summary>
    public async Task TruncateAsync(long after, CancellationToken cancellationToken)
    {
        using (await _committing.EnterAsync(cancellationToken))
        {
            lock (_lock)
            {
                var from = IndexOf(after + 1);
                var some = from < _steps.Count;
                _steps.RemoveRange(from, _steps.Count - from);
                _gone.UnionWith(_segments.Where(s => s > after));
                _segments.RemoveAll(s => s > after);
                _dirty.RemoveWhere(s => s > after);
                if (some && _segments.Count > 0)
                {
                    _dirty.Add(_segments[^1]);
                }
            }
        }

        await CommitAsync(cancellationToken);
    }

    /// <summary>Makes all steps durable.</summary>
    /// <exception cref="BlobConditionException">Another process wrote the metrics: this one is no longer their owner.</exception>
    public async Task CommitAsync(CancellationToken cancellationToken)
    {
        using (await _committing.EnterAsync(cancellationToken))
        {
            await DropGoneAsync(cancellationToken);
            while (true)
            {
                long segment;
                string text;
                lock (_lock)
                {
                    if (_dirty.Count == 0)
                    {
                        UncommittedCount = 0;
                        return;
                    }

                    segment = _dirty.Min;
                    text = TextOf(segment);
                    _dirty.Remove(segment);
                }

                try
                {
                    await WriteAsync(segment, text, cancellationToken);
                }
                catch
                {
                    lock (_lock)
                    {
                        _dirty.Add(segment);
                    }

                    throw;
                }
            }
        }
    }

    // From the end, so that what is left is never a hole.
    private async Task DropGoneAsync(CancellationToken cancellationToken)
    {
        while (Last() is { } segment)
        {
            await DropAsync(segment, cancellationToken);
            lock (_lock)
            {
                _gone.Remove(segment);
            }
        }

        long? Last()
        {
            lock (_lock)
            {
                return _gone.Count > 0 ? _gone.Max : null;
            }
        }
    }

    // Where nothing may be deleted, it is emptied; where the answer was lost, what is stored decides.
    private async Task DropAsync(long segment, CancellationToken cancellationToken)
    {
        var name = NameOf(segment);
        _eTags.Remove(segment);
        _doubtful.Remove(segment);
        try
        {
            await _store.DeleteAsync(name, cancellationToken);
        }
        catch (Exception exception) when (StorageFailure.Is(exception))
        {
            if (await _store.TryReadTextAsync(name, cancellationToken) is (_, var eTag))
            {
                _eTags[segment] = await _store.WriteTextAsync(name, "", BlobCondition.Matches(eTag), cancellationToken);
            }
        }
    }

    // After a failed write it is not known whether it took effect: what is stored then decides.
    private async Task WriteAsync(long segment, string text, CancellationToken cancellationToken)
    {
        var name = NameOf(segment);
        if (_doubtful.TryGetValue(segment, out var doubtful) && await _store.TryReadTextAsync(name, cancellationToken) is (var stored, var storedETag) && stored == doubtful)
        {
            _eTags[segment] = storedETag;
        }

        try
        {
            _eTags[segment] = await _store.WriteTextAsync(
                name, text, _eTags.TryGetValue(segment, out var eTag) ? BlobCondition.Matches(eTag) : BlobCondition.NotExists, cancellationToken);
            _doubtful.Remove(segment);
        }
        catch (Exception exception) when (exception is not BlobConditionException)
        {
            _doubtful[segment] = text;
            throw;
        }
    }

    private StepMetrics? Put(StepMetrics step)
    {
        var index = IndexOf(step.Step);
        if (index < _steps.Count && _steps[index].Step == step.Step)
        {
            var previous = _steps[index];
            if (!step.HasValidationLoss && previous.HasValidationLoss)
            {
                step = step.Clone();
                step.ValidationLoss = previous.ValidationLoss;
            }

            // Rank 0 alone writes samples; who has become it since does not have those of before.
            if (step.Samples.Count == 0 && previous.Samples.Count > 0)
            {
                step = step.Clone();
                step.Samples.Add(previous.Samples);
            }

            _steps[index] = step;
            return previous;
        }

        _steps.Insert(index, step);
        return null;
    }

    private int IndexOf(long step)
    {
        if (_steps.Count == 0 || _steps[^1].Step < step)
        {
            return _steps.Count;
        }

        var (low, high) = (0, _steps.Count - 1);
        while (low < high)
        {
            var middle = (low + high) / 2;
            (low, high) = _steps[middle].Step < step ? (middle + 1, high) : (low, middle);
        }

        return low;
    }

    private int CountFrom(long step) => _steps.Count - IndexOf(step);

    /// <summary>Whether a step is before the end of what its segment holds already.</summary>
    private bool IsCovered(long step) => _steps.Count > 0 && _steps[^1].Step > step;

    private long SegmentOf(long step) => _segments.LastOrDefault(s => s <= step, _segments[0]);

    private string TextOf(long segment)
    {
        var text = new StringBuilder();
        var index = _segments.IndexOf(segment);
        var from = index == 0 ? 0 : IndexOf(segment);
        var end = index + 1 < _segments.Count ? IndexOf(_segments[index + 1]) : _steps.Count;
        for (var i = from; i < end; i++)
        {
            text.Append(JsonFormatter.Default.Format(_steps[i])).Append('\n');
        }

        return text.ToString();
    }

    private string NameOf(long segment) => string.Create(CultureInfo.InvariantCulture, $"{_run}/metrics/{segment:D8}.jsonl");
}
