using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace LlmPipeline.Evaluator;

/// <summary>Spans and metrics of the service.</summary>
internal sealed class EvaluatorTelemetry : IDisposable
{
    public const string Name = "LlmPipeline.Evaluator";

    private readonly ActivitySource _source = new(Name);
    private readonly UpDownCounter<int> _queued;
    private readonly Counter<long> _tokens;
    private readonly Histogram<double> _duration;

    public EvaluatorTelemetry(IMeterFactory meters)
    {
        var meter = meters.Create(Name);
        _queued = meter.CreateUpDownCounter<int>("llmpipeline.evaluation.queue.length", "{evaluation}", "Evaluations that wait or are in work.");
        _tokens = meter.CreateCounter<long>("llmpipeline.evaluation.tokens", "{token}", "Tokens predicted by networks.");
        _duration = meter.CreateHistogram<double>("llmpipeline.evaluation.duration", "s", "Time of an evaluation.");
    }

    /// <summary>The span of a whole evaluation, a child of the call that created it.</summary>
    public Activity? StartEvaluation(string name, string traceparent)
    {
        var parent = ActivityContext.TryParse(traceparent, null, isRemote: true, out var context) ? context : default;
        return _source.StartActivity("evaluate", ActivityKind.Internal, parent)?.SetTag("llmpipeline.evaluation", name);
    }

    /// <summary>The span of a phase.</summary>
    public Activity? StartPhase(string phase) => _source.StartActivity(phase);

    public void QueueChanged(int change) => _queued.Add(change);

    public void Predicted(long tokens) => _tokens.Add(tokens);

    public void Done(TimeSpan duration) => _duration.Record(duration.TotalSeconds);

    public void Dispose() => _source.Dispose();
}
