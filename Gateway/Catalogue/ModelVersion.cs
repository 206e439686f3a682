using System.Text.Json;
using System.Text.Json.Nodes;
using LlmPipeline.Models;
using LlmPipeline.Storage;

namespace LlmPipeline.Gateway.Catalogue;

/// <summary>A published version, as its manifest and configuration tell; nothing is loaded yet.</summary>
internal sealed record ModelVersion
{
    /// <summary>Id of the model.</summary>
    public required string Model { get; init; }

    /// <summary>Counted from 1.</summary>
    public required int Version { get; init; }

    /// <summary>Version of the manifest blob: a changed manifest is another model.</summary>
    public required string ETag { get; init; }

    /// <summary>When the manifest was committed.</summary>
    public required DateTimeOffset CreateTime { get; init; }

    /// <summary>Context length in tokens.</summary>
    public int Context { get; init; }

    /// <summary>Number of parameters; 0 while unknown.</summary>
    public long ParameterCount { get; init; }

    /// <summary>Names of the classes of a classifier; null of a model that continues text.</summary>
    public IReadOnlyList<string>? Labels { get; init; }

    /// <summary>Evaluated loss in nats per token.</summary>
    public double? Loss { get; init; }

    /// <summary>The run that made it, runs/{run}; empty when there was none.</summary>
    public string Run { get; init; } = "";

    /// <summary>W3C traceparent of that run.</summary>
    public string? Traceparent { get; init; }

    /// <summary>Its directory in storage. Format: models/{model}/versions/{version}.</summary>
    public required string Name { get; init; }

    /// <summary>Reads manifest and configuration of a committed version.</summary>
    /// <exception cref="InvalidDataException">One of the two is missing or not what it should be.</exception>
    public static async Task<ModelVersion> ReadAsync(IBlobStore store, string model, int version, BlobProperties manifestBlob, CancellationToken cancellationToken)
    {
        var directory = manifestBlob.Name[..manifestBlob.Name.LastIndexOf('/')];
        try
        {
            var manifest = await store.TryReadManifestAsync(directory, cancellationToken)
                ?? throw new InvalidDataException($"'{manifestBlob.Name}' disappeared.");
            var config = await store.TryReadTextAsync($"{directory}/config.json", cancellationToken)
                ?? throw new InvalidDataException($"'{directory}/config.json' is missing. Delete '{directory}' and publish the model again.");
            var properties = manifest.Properties;
            return new ModelVersion
            {
                Name = directory,
                Model = model,
                Version = version,
                ETag = manifestBlob.ETag,
                CreateTime = manifestBlob.LastModified,
                Context = ContextOf(JsonNode.Parse(config.Text)),
                Labels = ModelDirectory.LabelsOf(config.Text, directory),
                ParameterCount = Number(properties, "parameter_count") is { } count ? (long)count : 0,
                Loss = Number(properties, "loss"),
                Run = Text(properties, "run") ?? "",
                Traceparent = Text(properties, "traceparent"),
            };
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException or FormatException)
        {
            throw new InvalidDataException($"'{directory}/config.json' is damaged ({exception.Message}). Delete '{directory}' and publish the model again.", exception);
        }
    }

    private static int ContextOf(JsonNode? config) =>
        (config?["n_positions"] ?? config?["n_ctx"] ?? config?["max_position_embeddings"])?.GetValue<int>() ?? 0;

    private static string? Text(JsonObject properties, string key) =>
        properties[key] is JsonValue value && value.TryGetValue<string>(out var text) && text.Length > 0 ? text : null;

    private static double? Number(JsonObject properties, string key) =>
        properties[key] is JsonValue value && value.TryGetValue<double>(out var number) && double.IsFinite(number) ? number : null;
}
