namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Settings of the coordinator; section "Coordinator".</summary>
internal sealed record CoordinatorOptions
{
    /// <summary>Name of the configuration section.</summary>
    public const string Section = "Coordinator";

    /// <summary>Seconds for which Preprocessor or Evaluator may be out of reach before a run that needs them fails.</summary>
    public double PatienceSeconds { get; init; } = 120;

    /// <summary>Seconds without an open call after which a worker is lost. A call is held for a second, so a frozen worker is lost a second later than this.</summary>
    public double WorkerLostSeconds { get; init; } = 3.5;

    /// <summary>Seconds between commits of step metrics.</summary>
    public double MetricsCommitSeconds { get; init; } = 10;
}
