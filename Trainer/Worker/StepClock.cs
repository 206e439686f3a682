using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Worker;

/// <summary>What the time of a step is spent on; see <see cref="StepPhases"/>.</summary>
internal enum StepPhase
{
    /// <summary>Reading ids.</summary>
    Data,

    /// <summary>Forward and backward passes, and turning gradients into integers.</summary>
    ForwardBackward,

    /// <summary>All-reduce, waiting for slower workers included.</summary>
    Exchange,

    /// <summary>Norm, clipping, update rule.</summary>
    Optimizer,

    /// <summary>Validation and samples.</summary>
    Validation,

    /// <summary>What a checkpoint holds training up.</summary>
    Checkpoint,

    /// <summary>Decisions and reports.</summary>
    Other,
}

/// <summary>
/// Durations of a step's phases. Every moment belongs to exactly one of them: a lap begins where the one before ended, so their
/// sum is the wall time.
/// </summary>
/// <param name="time">Tells the time.</param>
internal sealed class StepClock(TimeProvider time)
{
    /// <summary>All phases.</summary>
    public static IReadOnlyList<StepPhase> Phases { get; } = Enum.GetValues<StepPhase>();

    private readonly long[] _ticks = new long[Phases.Count];
    private long _mark = time.GetTimestamp();

    /// <summary>When the step began.</summary>
    public DateTimeOffset Start { get; private set; } = time.GetUtcNow();

    /// <summary>All phases together.</summary>
    public TimeSpan Total => time.GetElapsedTime(0, _ticks.Sum());

    /// <summary>The time of a phase so far.</summary>
    public TimeSpan this[StepPhase phase] => time.GetElapsedTime(0, _ticks[(int)phase]);

    /// <summary>The time since the last lap was spent on this phase.</summary>
    public void Lap(StepPhase phase)
    {
        var now = time.GetTimestamp();
        _ticks[(int)phase] += now - _mark;
        _mark = now;
    }

    /// <summary>All phases so far, for <see cref="Add"/>.</summary>
    public long[] Ticks() => [.. _ticks];

    /// <summary>What was spent on this step before, by another clock of the same time.</summary>
    public void Add(long[] ticks)
    {
        for (var phase = 0; phase < _ticks.Length; phase++)
        {
            _ticks[phase] += ticks[phase];
        }
    }

    /// <summary>Leaves one of so many equal parts of each phase, where as many steps were taken together.</summary>
    public void Share(int parts)
    {
        for (var phase = 0; phase < _ticks.Length; phase++)
        {
            _ticks[phase] /= parts;
        }
    }

    /// <summary>Begins the next step where the last lap ended.</summary>
    public void Restart()
    {
        Array.Clear(_ticks);
        Start = time.GetUtcNow() - time.GetElapsedTime(_mark);
    }

    /// <summary>As it is reported.</summary>
    public StepPhases ToMessage() => new()
    {
        Data = this[StepPhase.Data].TotalSeconds,
        ForwardBackward = this[StepPhase.ForwardBackward].TotalSeconds,
        Exchange = this[StepPhase.Exchange].TotalSeconds,
        Optimizer = this[StepPhase.Optimizer].TotalSeconds,
        Validation = this[StepPhase.Validation].TotalSeconds,
        Checkpoint = this[StepPhase.Checkpoint].TotalSeconds,
        Other = this[StepPhase.Other].TotalSeconds,
    };
}
