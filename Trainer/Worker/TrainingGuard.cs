using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Worker;

/// <summary>What is done about an anomaly; <c>training.on_anomaly</c>.</summary>
internal enum AnomalyPolicy
{
    /// <summary>The step changes nothing; the next one goes on with other data.</summary>
    Skip,

    /// <summary>Training goes on from the newest checkpoint, with the data after the anomaly.</summary>
    Rollback,

    /// <summary>The run fails.</summary>
    Stop,
}

/// <summary>When a step is an anomaly, and what is done about it.</summary>
internal sealed record GuardOptions
{
    /// <summary>What is done.</summary>
    public AnomalyPolicy Policy { get; init; } = AnomalyPolicy.Skip;

    /// <summary>Anomalies within <see cref="Window"/> that training survives.</summary>
    public int MaxAnomalies { get; init; } = 5;

    /// <summary>Steps over which they are counted.</summary>
    public long Window { get; init; } = 500;

    /// <summary>Robust standard deviations above the median that make a loss a spike; 0 switches it off.</summary>
    public double SpikeDeviation { get; init; } = 10;

    /// <summary>Multiple of the median that makes a norm an explosion; 0 switches it off.</summary>
    public double MaxNormFactor { get; init; } = 1000;
}

/// <summary>Why a step is an anomaly.</summary>
/// <param name="Reason">One of <see cref="ErrorReasons"/>.</param>
/// <param name="Message">What was seen, for a person, without a full stop.</param>
/// <param name="Remedy">What to do about it.</param>
internal sealed record Anomaly(string Reason, string Message, string Remedy);

/// <summary>
/// What a run remembers of its steps to tell an anomaly, and of the anomalies. Part of <see cref="TrainerState"/>: it derives from
/// exchanged numbers alone, so that all members judge alike.
/// </summary>
internal sealed record GuardState
{
    /// <summary>Steps that the median is taken over.</summary>
    public const int HistoryLength = 64;

    /// <summary>Steps without which nothing is judged.</summary>
    public const int LeastHistory = 32;

    private const double LeastDeviation = 0.2;
    private const double LeastRelativeDeviation = 0.02;

    /// <summary>Losses of the newest steps that were no anomaly, oldest first.</summary>
    public IReadOnlyList<double> Losses { get; init; } = [];

    /// <summary>Norms of their gradients.</summary>
    public IReadOnlyList<double> Norms { get; init; } = [];

    /// <summary>Steps at which there were anomalies, as far as they count for the limit.</summary>
    public IReadOnlyList<long> Anomalies { get; init; } = [];

    /// <summary>Steps that changed nothing, since the last rollback included.</summary>
    public long SkippedSteps { get; init; }

    /// <summary>Times training went back.</summary>
    public int Rollbacks { get; init; }

    /// <summary>Steps whose data was passed over by going back: step s reads what is at s plus this.</summary>
    public long DataOffset { get; init; }

    /// <summary>Judges a step by its loss and norm; null for one as usual.</summary>
    public Anomaly? Judge(GuardOptions options, double loss, double norm)
    {
        // Of finite gradients too the sum may be none, where floats are summed.
        if (!double.IsFinite(norm))
        {
            return new Anomaly(ErrorReasons.LossNotFinite, "the sum of all workers' gradients is not finite",
                "Lower optimizer.learning_rate or set optimizer.clip_norm");
        }

        if (Losses.Count < LeastHistory)
        {
            return null;
        }

        if (options.SpikeDeviation > 0)
        {
            var median = Statistics.Median(Losses);
            var deviation = Math.Max(1.4826 * Statistics.Median([.. Losses.Select(l => Math.Abs(l - median))]), Math.Max(LeastDeviation, LeastRelativeDeviation * median));
            if (!(loss <= median + (options.SpikeDeviation * deviation)))
            {
                return new Anomaly(ErrorReasons.LossSpike,
                    FormattableString.Invariant($"the loss is {loss:G5}, more than {options.SpikeDeviation:G4} robust standard deviations of {deviation:G3} above the {median:G5} of the steps before"),
                    "Lower optimizer.learning_rate, look at the data, set training.on_anomaly: rollback, or a larger training.spike_deviation (0 switches the check off)");
            }
        }

        if (options.MaxNormFactor > 0 && Statistics.Median(Norms) is > 0 and var usual && !(norm <= options.MaxNormFactor * usual))
        {
            return new Anomaly(ErrorReasons.GradientExploded,
                FormattableString.Invariant($"the gradient's norm is {norm:G5}, more than {options.MaxNormFactor:G4} times the {usual:G4} of the steps before"),
                "Lower optimizer.learning_rate, look at the data, or set a larger training.max_norm_factor (0 switches the check off)");
        }

        return null;
    }

    /// <summary>The state after a step as usual.</summary>
    public GuardState Accept(double loss, double norm) => this with { Losses = Append(Losses, loss), Norms = Append(Norms, norm) };

    /// <summary>The state after an anomaly, and whether there have been too many of them.</summary>
    public (GuardState State, bool TooMany) Note(GuardOptions options, long step)
    {
        long[] counted = [.. Anomalies.Where(a => a > step - options.Window), step];
        return (this with { Anomalies = counted }, counted.Length > options.MaxAnomalies);
    }

    /// <summary>This state of a checkpoint, with what happened since; training goes on from it.</summary>
    /// <param name="present">The state at the anomaly.</param>
    /// <param name="passed">Steps from the checkpoint to the anomaly.</param>
    public GuardState GoBack(GuardState present, long passed) => this with
    {
        Anomalies = present.Anomalies,
        Rollbacks = present.Rollbacks + 1,
        DataOffset = present.DataOffset + passed,
    };

    /// <inheritdoc/>
    public bool Equals(GuardState? other) => other is not null && Losses.SequenceEqual(other.Losses) && Norms.SequenceEqual(other.Norms)
        && Anomalies.SequenceEqual(other.Anomalies) && (SkippedSteps, Rollbacks, DataOffset) == (other.SkippedSteps, other.Rollbacks, other.DataOffset);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Losses.Count, Anomalies.Count, SkippedSteps, Rollbacks, DataOffset);

    private static double[] Append(IReadOnlyList<double> values, double value) =>
        [.. values.Skip(Math.Max(0, values.Count + 1 - HistoryLength)), value];
}
