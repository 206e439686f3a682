using System.Globalization;
using System.Reflection;
using System.Text.Json.Nodes;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>PUBLISHING: the measured checkpoint's model becomes the next version of its model, with its lineage.</summary>
internal sealed class PublishingStage(IBlobStore store, TimeProvider time)
{
    private const string ManifestSuffix = "/manifest.json";

    /// <summary>Returns the version's name: <c>models/{m}/versions/{v}</c>. Done again, it finds the version it made.</summary>
    /// <exception cref="StageFailedException">The checkpoint is gone or damaged.</exception>
    public async Task<string> RunAsync(Run run, CancellationToken cancellationToken)
    {
        using var activity = RunTrace.Start("run publishing", run);
        var checkpoint = EvaluatingStage.Chosen(run);
        var name = await ModelVersions.PublishAsync(
            store, $"models/{run.Spec.Publish.ModelId}", known => IsOfAsync(known, run, checkpoint, cancellationToken),
            (directory, token) => WriteAsync(directory, run, checkpoint, token), time, cancellationToken);
        activity?.SetTag("model", name);
        return name;
    }

    private async Task<JsonObject> WriteAsync(DirectoryWriter directory, Run run, string checkpoint, CancellationToken cancellationToken)
    {
        string folder;
        try
        {
            folder = await store.GetVerifiedLocalDirectoryAsync(checkpoint, cancellationToken);
        }
        catch (Exception exception) when (exception is BlobNotFoundException or CorruptDirectoryException)
        {
            throw new StageFailedException(ErrorReasons.CorruptData, $"{exception.Message} Resume the run from another checkpoint.", exception);
        }

        var description = ModelDirectory.Describe(folder);
        await WriteAsync(directory, run, folder, description, cancellationToken);
        return await LineageAsync(run, checkpoint, description, cancellationToken);
    }

    private static async Task WriteAsync(DirectoryWriter directory, Run run, string folder, ModelDescription description, CancellationToken cancellationToken)
    {
        var merge = run.Spec.FineTune is { Method: "lora", Lora.Merge: true };
        if (merge)
        {
            TorchRuntime.Initialize();
            using var model = ModelDirectory.LoadNetwork(folder, TorchSharp.torch.CPU);
            await ModelDirectory.WriteAsync(directory, model, await File.ReadAllTextAsync(Path.Combine(folder, ModelDirectory.TokenizerFile), cancellationToken), cancellationToken: cancellationToken);
        }

        foreach (var file in description.Files)
        {
            var isAdapter = ModelDirectory.IsAdapterFile(file);
            if (!merge || isAdapter)
            {
                await directory.WriteAsync(merge ? $"adapter/{file}" : file, (stream, token) => CopyAsync(Path.Combine(folder, file), stream, token), cancellationToken);
            }
        }
    }

    private async Task<bool> IsOfAsync(string version, Run run, string checkpoint, CancellationToken cancellationToken) =>
        await PropertiesAsync(version, cancellationToken) is { } found && Text(found, "run") == run.Name
        && Text(found, "checkpoint") == checkpoint && Text(found, "attempt") == run.Attempt.ToString(CultureInfo.InvariantCulture);

    private async Task<JsonObject?> PropertiesAsync(string name, CancellationToken cancellationToken)
    {
        try
        {
            return (await store.TryReadManifestAsync(name, cancellationToken))?.Properties;
        }
        catch (CorruptDirectoryException)
        {
            // Its number is taken all the same.
            return null;
        }
    }

    private static string? Text(JsonObject properties, string key) => properties[key]?.ToString();

    private static async Task CopyAsync(string path, Stream destination, CancellationToken cancellationToken)
    {
        await using var source = File.OpenRead(path);
        await source.CopyToAsync(destination, cancellationToken);
    }

    private async Task<JsonObject> LineageAsync(Run run, string checkpoint, ModelDescription model, CancellationToken cancellationToken)
    {
        var dataset = await store.TryReadTextAsync($"{run.Dataset}{ManifestSuffix}", cancellationToken);
        var properties = dataset is null ? null : await PropertiesAsync(run.Dataset, cancellationToken);
        var quality = run.Evaluation?.Model;
        return new JsonObject
        {
            ["run"] = run.Name,
            ["attempt"] = run.Attempt,
            ["checkpoint"] = checkpoint,
            ["step"] = ResourceName.ParseCheckpoint(checkpoint).Step,
            ["dataset"] = run.Dataset,
            ["dataset_manifest_sha256"] = dataset is (var text, _) ? HashOf(text) : null,
            ["tokenizer"] = properties is null ? null : Text(properties, "tokenizer"),
            ["base"] = run.Spec.FineTune?.Base,
            ["evaluation"] = run.Evaluation?.Name,
            ["split"] = run.Evaluation?.Split,
            ["loss"] = Finite(quality?.Loss),
            ["perplexity"] = Finite(quality?.Perplexity),
            ["traceparent"] = run.Traceparent,
            ["parameter_count"] = model.ParameterCount,
            ["architecture"] = model.Architecture,
            ["context"] = model.Context,
            ["vocabulary_size"] = model.VocabularySize,
            ["code_version"] = typeof(PublishingStage).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion,
            ["create_time"] = time.GetUtcNow().ToString("O", CultureInfo.InvariantCulture),
        };
    }

    private static JsonValue? Finite(double? value) => value is { } number && double.IsFinite(number) ? JsonValue.Create(number) : null;

    private static string HashOf(string text) =>
        Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(text)));
}
