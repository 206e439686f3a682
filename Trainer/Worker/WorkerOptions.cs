namespace LlmPipeline.Trainer.Worker;

/// <summary>Settings of a worker; section "Worker".</summary>
internal sealed record WorkerOptions
{
    /// <summary>Name of the configuration section.</summary>
    public const string Section = "Worker";

    /// <summary>"auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".</summary>
    public string Device { get; init; } = "auto";

    /// <summary>What peers dial. Default <c>http://localhost:{GRPC_PORT}</c>.</summary>
    public string? Address { get; init; }

    /// <summary>
    /// A folder of text of this worker's own, for runs with <c>training.local.own_data</c>: it is read here, and nothing of it is sent.
    /// </summary>
    public string? Dataset { get; init; }

    /// <summary>Most milliseconds that the coordinator may hold a heartbeat.</summary>
    public int HeartbeatMilliseconds { get; init; } = 1000;
}
