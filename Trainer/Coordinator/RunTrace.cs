using System.Diagnostics;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>
/// The coordinator's spans of a run, children of the CreateRun call. A span reaches a collector when it ends, so long stages
/// are cut into segments.
/// </summary>
internal static class RunTrace
{
    /// <summary>Longest segment.</summary>
    public static readonly TimeSpan SegmentLength = TimeSpan.FromSeconds(60);

    private static readonly ActivitySource Source = new(TrainerMetrics.Name);

    /// <summary>The context that a run is to have: that of the call being served, or a new one.</summary>
    public static (string TraceId, string Traceparent) NewContext()
    {
        if (Activity.Current is { IdFormat: ActivityIdFormat.W3C } current)
        {
            return (current.TraceId.ToHexString(), current.Id!);
        }

        var trace = ActivityTraceId.CreateRandom();
        return (trace.ToHexString(), $"00-{trace.ToHexString()}-{ActivitySpanId.CreateRandom().ToHexString()}-01");
    }

    /// <summary>Begins a span of a run; it becomes the current one of the caller.</summary>
    public static Activity? Start(string name, Run run)
    {
        ActivityContext.TryParse(run.Traceparent, null, isRemote: true, out var parent);
        return Source.StartActivity(name, ActivityKind.Internal, parent)?.SetTag("run", run.Name).SetTag("attempt", run.Attempt);
    }
}
