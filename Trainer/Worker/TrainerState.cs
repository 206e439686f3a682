using System.Text.Json;
using System.Text.Json.Serialization;

namespace LlmPipeline.Trainer.Worker;

/// <summary>Everything of a run's position besides weights and moments; <c>trainer_state.json</c> of a checkpoint.</summary>
internal sealed record TrainerState
{
    /// <summary>Format: <c>runs/{r}</c>.</summary>
    public required string Run { get; init; }

    /// <summary>SHA-256 of the resolved spec, lower-case hexadecimal.</summary>
    public required string SpecHash { get; init; }

    /// <summary>Steps done.</summary>
    public long Step { get; init; }

    /// <summary>Tokens seen in these steps.</summary>
    public long TokenCount { get; init; }

    /// <summary>Seconds of training over all attempts, waiting not counted.</summary>
    public double TrainSeconds { get; init; }

    /// <summary>The last step after which the model was validated; 0 for none.</summary>
    public long ValidationStep { get; init; }

    /// <summary>Loss of that validation, in nats per token.</summary>
    public double? ValidationLoss { get; init; }

    /// <summary>The step with the lowest validation loss; 0 for none.</summary>
    public long BestValidationStep { get; init; }

    /// <summary>The lowest validation loss, in nats per token.</summary>
    public double? BestValidationLoss { get; init; }

    /// <summary>Validations at the interval in a row that did not improve on <see cref="ImprovedLoss"/> by enough.</summary>
    public int ValidationsWithoutImprovement { get; init; }

    /// <summary>Loss of the last validation at the interval that improved by enough, in nats per token.</summary>
    public double? ImprovedLoss { get; init; }

    /// <summary>The step of the checkpoint with the lowest validation loss; 0 for none.</summary>
    public long BestCheckpointStep { get; init; }

    /// <summary>Its validation loss, in nats per token.</summary>
    public double? BestCheckpointLoss { get; init; }

    /// <summary>What matrix products of training are computed in, by its name in a run file; null before it is decided.</summary>
    public string? Precision { get; init; }

    /// <summary>The loss scale of a run in fp16; null before its first step, and in other precisions.</summary>
    public LossScaler? LossScaler { get; init; }
    /// <summary>Sequences in one micro-batch, when one did not fit into memory; 0 for those of the spec.</summary>
    public int MicroBatchSize { get; init; }

    /// <summary>What the run remembers of its steps to tell an anomaly.</summary>
    public GuardState Guard { get; init; } = new();

    /// <summary>Steps that changed the parameters.</summary>
    [JsonIgnore]
    public long UpdateCount => Step - Guard.SkippedSteps;

    /// <summary>Metrics of the last step (protobuf JSON), so that whoever reports next can report it.</summary>
    public string? LastMetrics { get; init; }

    /// <summary>The state after a validation of its step.</summary>
    public TrainerState Validated(double loss) => this with
    {
        ValidationStep = Step,
        ValidationLoss = loss,
        BestValidationStep = BestValidationLoss is { } best && best <= loss ? BestValidationStep : Step,
        BestValidationLoss = BestValidationLoss is { } lowest && lowest <= loss ? lowest : loss,
    };

    /// <summary>
    /// Counts a validation at the interval, for early stopping. Validations that a cancellation or the end of training asked for
    /// are not counted, so that an interrupted run stops where an uninterrupted one does.
    /// </summary>
    /// <param name="loss">Its loss.</param>
    /// <param name="minImprovement">It has to be below the last improvement by more than this.</param>
    public TrainerState Counted(double loss, double minImprovement) => ImprovedLoss is not { } improved || improved - loss > minImprovement
        ? this with { ImprovedLoss = loss, ValidationsWithoutImprovement = 0 }
        : this with { ValidationsWithoutImprovement = ValidationsWithoutImprovement + 1 };

    /// <summary>The state after a checkpoint of its step.</summary>
    public TrainerState Checkpointed() => ValidationStep == Step && ValidationLoss is { } loss && !(BestCheckpointLoss <= loss)
        ? this with { BestCheckpointStep = Step, BestCheckpointLoss = loss }
        : this;

    /// <summary>As JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, TrainerStateJson.Default.TrainerState);

    /// <summary>From JSON.</summary>
    /// <exception cref="InvalidDataException">The text is no trainer state.</exception>
    public static TrainerState Parse(string json, string source)
    {
        try
        {
            return JsonSerializer.Deserialize(json, TrainerStateJson.Default.TrainerState)
                ?? throw new InvalidDataException($"{source} is no trainer state.");
        }
        catch (JsonException exception)
        {
            throw new InvalidDataException($"{source} is no trainer state: {exception.Message}", exception);
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(TrainerState))]
internal sealed partial class TrainerStateJson : JsonSerializerContext;
