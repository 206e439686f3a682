using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace LlmPipeline.Text.Building;

/// <summary>What a job makes: all that a process needs to work on its pieces.</summary>
/// <param name="Id">Names the job among those of the same dataset.</param>
/// <param name="Target">Name of the dataset.</param>
/// <param name="Recipe">How it is made.</param>
/// <param name="Spec">Kept in the manifest.</param>
/// <param name="Fingerprint">Identifies spec and source files.</param>
/// <param name="Traceparent">The trace that the work belongs to.</param>
internal sealed record JobDescription(string Id, string Target, DatasetRecipe Recipe, JsonNode? Spec, string? Fingerprint, string? Traceparent);

/// <summary>The stage whose pieces may be worked on, for processes that help.</summary>
/// <param name="Stage">"read", "count" or "encode".</param>
/// <param name="Count">Number of pieces.</param>
internal sealed record OpenStage(string Stage, int Count);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, UseStringEnumConverter = true)]
[JsonSerializable(typeof(JobDescription))]
[JsonSerializable(typeof(OpenStage))]
[JsonSerializable(typeof(UnitPlan))]
[JsonSerializable(typeof(ReadResult))]
[JsonSerializable(typeof(Selection))]
[JsonSerializable(typeof(CountResult))]
[JsonSerializable(typeof(TrainedTokenizer))]
[JsonSerializable(typeof(EncodeResult))]
internal sealed partial class BuildJson : JsonSerializerContext;
