using System.Runtime.InteropServices;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Worker;

/// <summary>A worker's copy of a run's state: model, optimizer state, position. One thread steps it; others may copy from it.</summary>
internal sealed class Replica(int attempt, LanguageModel model, Optimizer optimizer, TrainerState state) : IDisposable
{
    private const int HistoryLength = 256;

    private readonly Lock _lock = new();
    private readonly Queue<StepMetrics> _history = new();
    private readonly Queue<(long Step, RunEvent Event)> _events = new();
    private long? _rollback;
    private ExchangeBuffer? _gradients;
    private float[][]? _snapshot;
    private List<DeferredUpdate>? _deferred;
    private ServedState? _served;
    private DeviceState? _device;
    private bool _disposed;

    /// <summary>Format: <c>runs/{r}</c>.</summary>
    public string Run => State.Run;

    /// <summary>The run's attempt.</summary>
    public int Attempt => attempt;

    /// <summary>The network.</summary>
    public LanguageModel Model => model;

    /// <summary>The position; replaced as a whole.</summary>
    public TrainerState State { get; set; } = state;

    /// <summary>The update rule.</summary>
    public Optimizer Optimizer => optimizer;

    /// <summary>The buffers of <see cref="Optimizer.StateNames"/>, laid out like the parameters.</summary>
    public IReadOnlyList<float[]> OptimizerState { get; } = [.. optimizer.StateNames.Select(_ => new float[model.Parameters.Length])];

    /// <summary>The step's exchange buffer, made once. Its results lie where the model's gradients do, so these have to be set to 0 before a step.</summary>
    /// <param name="slots">Number of slots.</param>
    /// <param name="format">How gradients are summed and sent.</param>
    /// <param name="keepsGradients">They stay on the device: there are slots alone.</param>
    public ExchangeBuffer GradientBuffer(int slots, ExchangeFormat format, bool keepsGradients = false)
    {
        var length = keepsGradients ? 0 : model.Parameters.Length;
        return _gradients?.Length == length + slots && _gradients.Format == format ? _gradients
            : _gradients = new ExchangeBuffer(length, slots, keepsGradients ? null : () => model.Parameters.Gradients, format);
    }

    /// <summary>Where updates are done from now on: where the network computes, or on the host.</summary>
    public void UseDevice(bool isUsed)
    {
        lock (_lock)
        {
            if (!isUsed && _deferred is null)
            {
                _device?.ToHost();
            }

            if (isUsed != _device is not null)
            {
                _device?.Dispose();
                _device = isUsed ? new DeviceState(model, optimizer, OptimizerState) : null;
            }
        }
    }

    /// <summary>Parameters and optimizer state have been written on the host.</summary>
    public void HostChanged()
    {
        lock (_lock)
        {
            _device?.HostChanged();
            model.Parameters.UploadValues();
        }
    }

    /// <summary>
    /// Computes a micro-batch and an update that count for nothing: what runs for the first time is compiled, and memory is touched.
    /// For a replica that is empty: parameters stay as they are, the optimizer state is 0 afterwards.
    /// </summary>
    /// <param name="data">Its first micro-batch is read.</param>
    /// <param name="precision">What to compute in.</param>
    public void WarmUp(ITrainingData data, Precision precision)
    {
        var before = model.Precision;
        try
        {
            data.ReadMicroBatch(1, 0);
            model.Precision = precision;
            model.AccumulateGradients(data.Inputs, data.Targets, data.Rows, 1f / data.PredictionsPerStep, dropoutSeed: 0);
        }
        catch (Exception exception) when (OutOfMemory.Is(exception))
        {
            // The loop takes a smaller micro-batch when it comes to it.
        }
        finally
        {
            model.Precision = before;
            model.Parameters.ZeroGradients();
        }

        lock (_lock)
        {
            optimizer.Update(1, 0, 1, model.Parameters.DecayedLength, model.Parameters.Values, model.Parameters.Gradients, OptimizerState);
            foreach (var buffer in OptimizerState)
            {
                Array.Clear(buffer);
            }
        }
    }

    /// <summary>Bytes of parameters and optimizer state.</summary>
    public long StateBytes => (1L + OptimizerState.Count) * model.Parameters.Length * sizeof(float);

    /// <summary>
    /// Parameters and optimizer state are those of <see cref="State"/>. While they are still arriving from a peer, the position is ahead
    /// of them, and updates are kept for them.
    /// </summary>
    public bool IsWhole
    {
        get
        {
            lock (_lock)
            {
                return _deferred is null && State.Step >= 0;
            }
        }
    }

    /// <summary>Bytes of updates that are kept for state that is still arriving.</summary>
    public long DeferredBytes
    {
        get
        {
            lock (_lock)
            {
                return (_deferred?.Count ?? 0L) * model.Parameters.Length * sizeof(float);
            }
        }
    }

    /// <summary>What is served to peers, whatever the replica does meanwhile; null for nothing.</summary>
    public ServedState? Served => Volatile.Read(ref _served);

    /// <summary>The newest steps that were computed here, oldest first.</summary>
    public IReadOnlyList<StepMetrics> History
    {
        get
        {
            lock (_lock)
            {
                return [.. _history];
            }
        }
    }

    /// <summary>Keeps a step's metrics, replacing those of the same or later steps.</summary>
    public void Remember(StepMetrics metrics)
    {
        lock (_lock)
        {
            while (_history.Count >= HistoryLength)
            {
                _history.Dequeue();
            }

            if (_history.Any(m => m.Step >= metrics.Step))
            {
                var kept = _history.Where(m => m.Step < metrics.Step).ToList();
                _history.Clear();
                kept.ForEach(_history.Enqueue);
            }

            _history.Enqueue(metrics);
        }
    }

    /// <summary>What happened in the steps of <see cref="History"/>, oldest first, whoever told the coordinator of it.</summary>
    public IReadOnlyList<RunEvent> Events
    {
        get
        {
            lock (_lock)
            {
                return [.. _events.Where(e => e.Step > State.Step - HistoryLength).Select(e => e.Event)];
            }
        }
    }

    /// <summary>The step that training went back to within the steps of <see cref="History"/>; null when it did not.</summary>
    public long? RollbackStep
    {
        get
        {
            lock (_lock)
            {
                return _rollback is { } target && State.Step - target < HistoryLength ? target : null;
            }
        }
    }

    /// <summary>Keeps an event.</summary>
    public void Remember(RunEvent told)
    {
        lock (_lock)
        {
            while (_events.Count > 0 && (_events.Count >= HistoryLength || _events.Peek().Step <= State.Step - HistoryLength))
            {
                _events.Dequeue();
            }

            _events.Enqueue((State.Step, told));
        }
    }

    /// <summary>Takes over what a checkpoint remembers of the steps before it; a replica that has memories of its own keeps these.</summary>
    public void Remember(StepHistory history)
    {
        lock (_lock)
        {
            if (_history.Count > 0 || _events.Count > 0)
            {
                return;
            }

            foreach (var metrics in history.Metrics)
            {
                _history.Enqueue(metrics);
            }

            foreach (var happened in history.Events)
            {
                _events.Enqueue(happened);
            }
        }
    }

    /// <summary>Training goes back: drops the metrics of steps after one.</summary>
    public void Forget(long after)
    {
        lock (_lock)
        {
            _rollback = after;
            var kept = _history.Where(m => m.Step <= after).ToList();
            _history.Clear();
            kept.ForEach(_history.Enqueue);
        }
    }

    /// <summary>Does one optimizer step: parameters, optimizer state and position change together.</summary>
    /// <param name="learningRate">Learning rate of the step.</param>
    /// <param name="gradientFactor">Multiplies the gradient.</param>
    /// <param name="gradients">The model's gradients on the host; empty for those on the device.</param>
    /// <param name="next">The position.</param>
    public void Update(double learningRate, float gradientFactor, ReadOnlySpan<float> gradients, TrainerState next)
    {
        lock (_lock)
        {
            if (_deferred is { } deferred)
            {
                deferred.Add(new DeferredUpdate(next.UpdateCount, learningRate, gradientFactor, gradients.ToArray()));
            }
            else
            {
                Update(next.UpdateCount, learningRate, gradientFactor, gradients);
                UploadValues();
            }

            State = next;
        }
    }

    /// <summary>Takes a position whose parameters and optimizer state will be written by <see cref="Write"/>; updates are kept until then.</summary>
    public void BeginArrival(TrainerState state)
    {
        lock (_lock)
        {
            if (state.Step > State.Step + 1 || state.Step < State.Step || state.Guard.Rollbacks != State.Guard.Rollbacks)
            {
                // Others have taken steps that are not known here, or gone back from some that are.
                _history.Clear();
                _events.Clear();
                _rollback = null;
            }

            _device?.HostChanged();
            _deferred = [];
            State = state;
        }
    }

    /// <summary>Parameters and optimizer state have arrived: does the updates that were kept, so that they are those of <see cref="State"/>.</summary>
    public void CompleteArrival()
    {
        lock (_lock)
        {
            HostChanged();
            foreach (var update in _deferred ?? [])
            {
                Update(update.Count, update.LearningRate, update.Factor, update.Gradients);
            }

            _deferred = null;
            UploadValues();
        }
    }

    private void Update(long count, double learningRate, float gradientFactor, ReadOnlySpan<float> gradients)
    {
        if (_device is null)
        {
            optimizer.Update(count, learningRate, gradientFactor, model.Parameters.DecayedLength, model.Parameters.Values, gradients, OptimizerState);
            return;
        }

        if (gradients.Length > 0)
        {
            if (gradients != model.Parameters.Gradients)
            {
                gradients.CopyTo(model.Parameters.Gradients);
            }

            model.Parameters.UploadGradients();
        }

        _device.Update(count, learningRate, gradientFactor);
    }

    // Of updates on the host.
    private void UploadValues()
    {
        if (_device is null)
        {
            model.Parameters.UploadValues();
        }
    }

    /// <summary>Parameters and optimizer state will not arrive: the replica holds no state.</summary>
    public void AbandonArrival()
    {
        lock (_lock)
        {
            if (_deferred is not null)
            {
                _deferred = null;
                State = State with { Step = -1 };
            }
        }
    }

    /// <summary>Copies parameters and optimizer state, for peers to read while the replica steps on.</summary>
    public void Serve()
    {
        lock (_lock)
        {
            StopServing();
            _device?.ToHost();
            _served = new ServedState(State.Step, model.Parameters.Values, OptimizerState);
        }
    }

    /// <summary>Lets go of what <see cref="Serve"/> copied; who is reading it goes on.</summary>
    public void StopServing() => Interlocked.Exchange(ref _served, null)?.Dispose();

    /// <summary>A hash of parameters and optimizer state: other bits give another one.</summary>
    public ulong Hash()
    {
        lock (_lock)
        {
            _device?.ToHost();
            return OptimizerState.Aggregate(StateHash.Add(0, model.Parameters.Values), (hash, buffer) => StateHash.Add(hash, buffer));
        }
    }

    /// <summary>Ends a round of low-communication training: parameters, optimizer state and position change together.</summary>
    /// <param name="learningRate">The outer one.</param>
    /// <param name="gradient">The mean outer gradient.</param>
    /// <param name="innerState">The inner optimizer's state that the next round begins from.</param>
    /// <param name="next">The position.</param>
    public void UpdateRound(double learningRate, ReadOnlySpan<float> gradient, IReadOnlyList<float[]> innerState, TrainerState next)
    {
        lock (_lock)
        {
            optimizer.Update(next.UpdateCount, learningRate, 1, 0, model.Parameters.Values, gradient, OptimizerState);
            for (var i = 0; i < innerState.Count; i++)
            {
                innerState[i].CopyTo(OptimizerState[i], 0);
            }

            model.Parameters.UploadValues();
            State = next;
        }
    }

    /// <summary>What this worker has done of the present round of low-communication training; null for nothing.</summary>
    public LocalRound? LocalRound { get; set; }

    /// <summary>Takes the parameters from before the first step, and clears what the optimizer remembers. The position is set apart.</summary>
    public void Begin(ReadOnlySpan<float> values)
    {
        lock (_lock)
        {
            values.CopyTo(model.Parameters.Values);
            foreach (var buffer in OptimizerState)
            {
                Array.Clear(buffer);
            }

            HostChanged();
        }
    }

    /// <summary>Changes the position only.</summary>
    public void Skip(TrainerState next)
    {
        lock (_lock)
        {
            State = next;
        }
    }

    /// <summary>Everything that a checkpoint holds, where it is; good until the next step.</summary>
    /// <param name="state">The position that goes with it.</param>
    public ReplicaSnapshot Present(TrainerState state)
    {
        lock (_lock)
        {
            _device?.ToHost();
            return new(model, state, null, [.. optimizer.StateNames.Zip(OptimizerState)], CopyHistory());
        }
    }

    /// <summary>Copies everything that a checkpoint holds, into memory that the next snapshot uses again.</summary>
    /// <param name="state">The position that goes with it.</param>
    public ReplicaSnapshot TakeSnapshot(TrainerState state)
    {
        StepHistory history;
        lock (_lock)
        {
            _device?.ToHost();
            history = CopyHistory();
        }

        _snapshot ??= [.. Enumerable.Range(0, 1 + OptimizerState.Count).Select(_ => new float[model.Parameters.Length])];
        model.Parameters.Values.CopyTo(_snapshot[0]);
        for (var i = 0; i < OptimizerState.Count; i++)
        {
            OptimizerState[i].CopyTo(_snapshot[i + 1], 0);
        }

        return new ReplicaSnapshot(model, state, _snapshot[0], [.. optimizer.StateNames.Zip(_snapshot.Skip(1))], history);
    }

    // The times of the last step are still filled in.
    private StepHistory CopyHistory() => new([.. _history.Select(m => m.Clone())], [.. _events]);

    /// <summary>Overwrites bytes of the state.</summary>
    public void Write(long offset, ReadOnlySpan<byte> source)
    {
        lock (_lock)
        {
            while (source.Length > 0)
            {
                var part = Part(offset);
                var length = Math.Min(part.Length, source.Length);
                source[..length].CopyTo(part);
                source = source[length..];
                offset += length;
            }
        }
    }

    /// <summary>The state from a byte on, up to the end of its buffer.</summary>
    private Span<byte> Part(long offset)
    {
        var length = (long)model.Parameters.Length * sizeof(float);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(offset, StateBytes);
        var buffer = offset < length ? model.Parameters.Values : OptimizerState[(int)(offset / length) - 1];
        return MemoryMarshal.AsBytes(buffer)[(int)(offset % length)..];
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            if (!_disposed)
            {
                _disposed = true;
                StopServing();
                _device?.Dispose();
                model.Dispose();
            }
        }
    }

    private sealed record DeferredUpdate(long Count, double LearningRate, float Factor, float[] Gradients);
}
