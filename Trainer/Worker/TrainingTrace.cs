using System.Diagnostics;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// A worker's spans of one run: a segment at most every 60 s, some steps with their phases (the first ones, then ever fewer),
/// validations and checkpoints. About 300 at most, however long the run is.
/// </summary>
internal sealed class TrainingTrace(string run) : IDisposable
{
    private const int MaxSampledSteps = 40;
    private const int MaxOtherSpans = 120;
    private static readonly ActivitySource Source = new(TrainerMetrics.Name);
    private static readonly TimeSpan SegmentLength = TimeSpan.FromSeconds(60);

    private ActivityContext _parent;
    private Activity? _segment;
    private int _rank;
    private long _firstStep;
    private long _lastSampled;
    private int _sampledSteps;
    private int _otherSpans;

    /// <summary>Format: <c>runs/{r}</c>.</summary>
    public string Run => run;

    /// <summary>Begins an epoch.</summary>
    /// <param name="traceparent">W3C traceparent of the run; empty gives no spans.</param>
    /// <param name="rank">This worker's rank.</param>
    /// <param name="step">Steps done.</param>
    public void Enter(string traceparent, int rank, long step)
    {
        _rank = rank;
        ActivityContext.TryParse(traceparent, null, isRemote: true, out _parent);
        Continue(step, true);
    }

    /// <summary>Ends the segment when it is long enough or <paramref name="force"/>, and begins another.</summary>
    public void Continue(long step, bool force = false)
    {
        if (!force && _segment is not null && DateTime.UtcNow - _segment.StartTimeUtc < SegmentLength)
        {
            return;
        }

        End(step);
        _firstStep = step + 1;
        _segment = Start("train segment", _parent);
    }

    /// <summary>Ends the epoch.</summary>
    public void Leave(long step) => End(step);

    /// <summary>A span for something rarer than steps; null when the run has had enough of them.</summary>
    public Activity? Start(string name) => Start(name, _segment?.Context ?? _parent);

    /// <summary>Samples a step that is over.</summary>
    public void Step(long step, double loss, StepClock time)
    {
        if (_segment is null || _sampledSteps >= MaxSampledSteps || step - _lastSampled < _lastSampled / 4)
        {
            return;
        }

        _lastSampled = step;
        _sampledSteps++;
        using var activity = Source.StartActivity("train step", ActivityKind.Internal, _segment.Context, startTime: time.Start);
        if (activity is null)
        {
            return;
        }

        activity.SetTag("run", run).SetTag("step", step).SetTag("rank", _rank).SetTag("loss", loss);
        var begin = time.Start;
        Phase("data", time[StepPhase.Data]);
        Phase("forward_backward", time[StepPhase.ForwardBackward]);
        Phase("exchange", time[StepPhase.Exchange]);
        Phase("optimizer", time[StepPhase.Optimizer]);
        activity.SetEndTime(begin.UtcDateTime);

        void Phase(string name, TimeSpan duration)
        {
            using var phase = Source.StartActivity(name, ActivityKind.Internal, activity.Context, startTime: begin);
            begin += duration;
            phase?.SetEndTime(begin.UtcDateTime);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _segment?.Dispose();

    private Activity? Start(string name, ActivityContext parent)
    {
        if (parent == default || _otherSpans >= MaxOtherSpans)
        {
            return null;
        }

        _otherSpans++;
        var current = Activity.Current;
        var activity = Source.StartActivity(name, ActivityKind.Internal, parent);
        activity?.SetTag("run", run).SetTag("rank", _rank);
        Activity.Current = current;
        return activity;
    }

    private void End(long step)
    {
        _segment?.SetTag("first_step", _firstStep).SetTag("last_step", step);
        _segment?.Dispose();
        _segment = null;
    }
}
