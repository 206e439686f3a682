using System.Text.Json;
using System.Text.Json.Nodes;
using Google.Protobuf;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// What a replica remembers of its newest steps, <c>history.json</c> of a checkpoint: a checkpoint is durable before the coordinator's
/// record of its steps is, and when all processes end at once nobody else remembers them.
/// </summary>
/// <param name="Metrics">Oldest first.</param>
/// <param name="Events">What happened, with the steps that were done then; oldest first.</param>
/// <param name="RollbackStep">The step that training went back to last; null when it did not.</param>
internal sealed record StepHistory(IReadOnlyList<StepMetrics> Metrics, IReadOnlyList<(long Step, RunEvent Event)> Events, long? RollbackStep)
{
    /// <summary>As JSON.</summary>
    public string ToJson() => new JsonObject
    {
        ["metrics"] = new JsonArray([.. Metrics.Select(Node)]),
        ["events"] = new JsonArray([.. Events.Select(e => new JsonObject { ["step"] = e.Step, ["event"] = Node(e.Event) })]),
        ["rollback_step"] = RollbackStep,
    }.ToJsonString();

    /// <summary>From JSON.</summary>
    /// <exception cref="InvalidDataException">The text is no history.</exception>
    public static StepHistory Parse(string json, string source)
    {
        try
        {
            var root = JsonNode.Parse(json)!;
            return new StepHistory(
                [.. root["metrics"]!.AsArray().Select(node => JsonParser.Default.Parse<StepMetrics>(node!.ToJsonString()))],
                [.. root["events"]!.AsArray().Select(node => ((long)node!["step"]!, JsonParser.Default.Parse<RunEvent>(node["event"]!.ToJsonString())))],
                (long?)root["rollback_step"]);
        }
        catch (Exception exception) when (exception is JsonException or InvalidProtocolBufferException or NullReferenceException or InvalidOperationException or FormatException)
        {
            throw new InvalidDataException($"{source} is no history of steps: {exception.Message}", exception);
        }
    }

    private static JsonNode Node(IMessage message) => JsonNode.Parse(JsonFormatter.Default.Format(message))!;
}
