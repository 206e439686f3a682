namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Settings of the coordinator; section "Coordinator".</summary>
internal sealed record CoordinatorOptions
{
    /// <summary>Name of the configuration section.</summary>
    public const string Section = "Coordinator";

    /// <summary>Seconds for which Preprocessor or Evaluator may be out of reach before a run that needs them fails.</summary>
    public double PatienceSeconds { get; init; } = 120;

    /// <summary>Seconds without a sign of life after which a worker is lost.</summary>
    public double WorkerLostSeconds { get; init; } = 5;

    /// <summary>Seconds between commits of step metrics.</summary>
    public double MetricsCommitSeconds { get; init; } = 10;
}
