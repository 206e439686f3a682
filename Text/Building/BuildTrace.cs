using System.Diagnostics;

namespace LlmPipeline.Text.Building;

/// <summary>Spans of the making of a dataset. Pieces that other processes work on are in the same trace.</summary>
internal static class BuildTrace
{
    /// <summary>Name of the source of spans.</summary>
    public const string Name = "LlmPipeline.Text.Building";

    private static readonly ActivitySource Source = new(Name);

    /// <summary>The span of a step of a stage that one process takes alone.</summary>
    public static Activity? StartStep(JobDescription job, string step) => Start(job, step);

    /// <summary>The span of a piece.</summary>
    public static Activity? StartPiece(JobDescription job, string stage, int index) => Start(job, $"{stage} piece")?.SetTag("llmpipeline.piece", index);

    private static Activity? Start(JobDescription job, string name)
    {
        var parent = Activity.Current?.Context ?? (ActivityContext.TryParse(job.Traceparent, null, isRemote: true, out var remote) ? remote : default);
        return Source.StartActivity(name, ActivityKind.Internal, parent)?.SetTag("llmpipeline.dataset", job.Target);
    }
}
