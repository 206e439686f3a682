using System.Text.Json;
using System.Text.Json.Nodes;
using Google.Protobuf;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// What a replica remembers of its newest steps, <c>history.json</c> of a checkpoint: a checkpoint is durable before the coordinator's
/// record of its steps is, and when all processes end at once nobody else remembers them.
/// </summary>
/// <param name="Metrics">Oldest first.</param>
/// <param name="Events">What happened, with the steps that were done then; oldest first.</param>
internal sealed record StepHistory(IReadOnlyList<StepMetrics> Metrics, IReadOnlyList<(long Step, RunEvent Event)> Events)
{
    /// <summary>As JSON.</summary>
    public string ToJson()
    {
        var events = Events.Select(e => $$"""{"step":{{e.Step}},"event":{{JsonFormatter.Default.Format(e.Event)}}}""");
        return $$"""{"metrics":[{{string.Join(",\n", Metrics.Select(m => JsonFormatter.Default.Format(m)))}}],"events":[{{string.Join(",\n", events)}}]}""";
    }

    /// <summary>From JSON.</summary>
    /// <exception cref="InvalidDataException">The text is no history.</exception>
    public static StepHistory Parse(string json, string source)
    {
        try
        {
            var root = JsonNode.Parse(json);
            return new StepHistory(
                [.. Items(root, "metrics").Select(node => StoredMessages.Parser.Parse<StepMetrics>(node.ToJsonString()))],
                [.. Items(root, "events").Select(node => (Member(node, "step").GetValue<long>(), StoredMessages.Parser.Parse<RunEvent>(Member(node, "event").ToJsonString())))]);
        }
        catch (Exception exception) when (exception is JsonException or InvalidProtocolBufferException or InvalidOperationException or FormatException)
        {
            throw new InvalidDataException($"{source} is no history of steps: {exception.Message}", exception);
        }
    }

    private static IEnumerable<JsonNode> Items(JsonNode? node, string name) => Member(node, name).AsArray().OfType<JsonNode>();

    private static JsonNode Member(JsonNode? node, string name) => node?[name] ?? throw new FormatException($"there is no '{name}'");
}
