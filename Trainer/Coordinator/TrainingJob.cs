using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>What workers are to train now.</summary>
internal sealed record TrainingJob
{
    /// <summary>Format: <c>runs/{r}</c>.</summary>
    public required string Run { get; init; }

    /// <summary>Attempt of the run.</summary>
    public required int Attempt { get; init; }

    /// <summary>The resolved spec.</summary>
    public required RunSpec Spec { get; init; }

    /// <summary>Format: <c>datasets/{d}</c>.</summary>
    public required string Dataset { get; init; }

    /// <summary>Context of the run's trace.</summary>
    public string Traceparent { get; init; } = "";

    /// <summary>Workers that were at it before the coordinator was restarted, in order of rank; they are given time to check in.</summary>
    public IReadOnlyList<string> ExpectedWorkers { get; init; } = [];

    /// <summary>Workers that take part at most: those beyond the micro-batches of a step, or the shards of low-communication training, have nothing to do.</summary>
    public int MaxWorkers => Spec.Training.MaxWorkers > 0 ? Math.Min(Spec.Training.MaxWorkers, Parts) : Parts;

    /// <summary>Workers that the run needs.</summary>
    public int MinWorkers => Math.Max(1, Spec.Training.MinWorkers);

    /// <summary>Workers that it waits for before its first step.</summary>
    public int StartWorkers => Math.Max(MinWorkers, Spec.Training.StartWorkers);

    /// <summary>Whether a worker can prepare before it is a member: not for n-grams, which one worker counts, without a state.</summary>
    public bool HasPreparation => !NgramRunner.Trains(Spec);

    private int Parts => LocalSettings.From(Spec.Training)?.Shards ?? Spec.Training.BatchSize / Spec.Training.MicroBatchSize;

    /// <summary>Whether the result may not depend on who computed what, so that all workers have to compute the same bits.</summary>
    /// <param name="devices">Devices of the workers.</param>
    public bool IsExact(IEnumerable<string> devices) => Spec.Training.Exchange is { HasMode: true } exchange
        ? exchange.Mode == "exact" : devices.Any(device => !device.StartsWith("cuda", StringComparison.Ordinal));
}

/// <summary>Where an epoch begins when no worker holds state.</summary>
/// <param name="Checkpoint">Format: <c>runs/{r}/checkpoints/{step}</c>; empty for fresh weights.</param>
/// <param name="Step">Its step.</param>
internal sealed record EpochOrigin(string Checkpoint, long Step);

/// <summary>What the coordinator is to do next.</summary>
internal enum EpochAction
{
    /// <summary>Nothing, until something changes or the time to look again.</summary>
    Wait,

    /// <summary>Begin an epoch.</summary>
    Form,

    /// <summary>Let the run fail.</summary>
    Fail,

    /// <summary>The run is cancelled, and nobody trains it: it is over.</summary>
    Over,
}

/// <summary>A decision of <see cref="EpochManager.Decide"/>.</summary>
/// <param name="Action">What to do.</param>
/// <param name="Reason">Why, for a person.</param>
internal sealed record EpochDecision(EpochAction Action, string Reason)
{
    /// <summary>Look again after this long, even if nothing changes.</summary>
    public TimeSpan? Recheck { get; init; }

    /// <summary>With <see cref="EpochAction.Form"/>: no worker holds state, so an <see cref="EpochOrigin"/> is needed.</summary>
    public bool NeedsOrigin { get; init; }

    /// <summary>The run stands still until a worker comes.</summary>
    public bool IsAwaitingWorkers { get; init; }

    /// <summary>With <see cref="EpochAction.Fail"/>: the error.</summary>
    public RunError? Error { get; init; }
}

/// <summary>An epoch that has begun.</summary>
/// <param name="Number">Its number.</param>
/// <param name="Workers">Its members, in order of rank.</param>
/// <param name="Reason">Why, for a person.</param>
/// <param name="StartStep">Steps done in the state that it begins with, as far as the coordinator knows.</param>
/// <param name="FromOrigin">It begins from storage or fresh weights: what was reported beyond is void.</param>
internal sealed record EpochStart(long Number, IReadOnlyList<RunWorker> Workers, string Reason, long StartStep, bool FromOrigin);

/// <summary>Something that happened to a worker.</summary>
/// <param name="Kind">One of <see cref="RunEvents"/>.</param>
/// <param name="Message">One sentence for a person.</param>
internal sealed record WorkerNotice(string Kind, string Message);

/// <summary>Times of membership.</summary>
internal sealed record EpochTimings
{
    /// <summary>Silence after which a worker is lost. Counted from the end of its last call, which is held for a second: 4.5 s at most from its last sign.</summary>
    public TimeSpan Lost { get; init; } = TimeSpan.FromSeconds(3.5);

    /// <summary>Quiet time after a worker joined, so that several make one epoch.</summary>
    public TimeSpan JoinDebounce { get; init; } = TimeSpan.FromSeconds(0.5);

    /// <summary>How long the other members have to say what they saw of a failure.</summary>
    public TimeSpan FailureWindow { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>A suspect with no call open for as long is gone.</summary>
    public TimeSpan SuspectSilence { get; init; } = TimeSpan.FromSeconds(0.3);

    /// <summary>How long workers have to check in after a restart of the coordinator.</summary>
    public TimeSpan Recovery { get; init; } = TimeSpan.FromSeconds(4);

    /// <summary>Longest pause between epochs that break without a step.</summary>
    public TimeSpan MaxBackoff { get; init; } = TimeSpan.FromSeconds(10);
}
