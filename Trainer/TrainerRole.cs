namespace LlmPipeline.Trainer;

/// <summary>What a trainer process does.</summary>
internal enum TrainerRole
{
    /// <summary>Owns runs.</summary>
    Coordinator,

    /// <summary>Computes.</summary>
    Worker,
}

/// <summary>Reads the role.</summary>
internal static class TrainerRoles
{
    private const string Key = "Trainer:Role";

    /// <summary>The role in <c>Trainer:Role</c>.</summary>
    /// <exception cref="InvalidOperationException">It is missing or unknown.</exception>
    public static TrainerRole Read(IConfiguration configuration) => configuration[Key] switch
    {
        "coordinator" => TrainerRole.Coordinator,
        "worker" => TrainerRole.Worker,
        null or "" => throw new InvalidOperationException($"{Key} is not set; use coordinator or worker."),
        var other => throw new InvalidOperationException($"{Key} is '{other}'; use coordinator or worker."),
    };
}
