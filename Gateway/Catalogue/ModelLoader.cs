using System.Diagnostics;
using LlmPipeline.Gateway.Telemetry;
using LlmPipeline.Models;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Gateway.Catalogue;

/// <summary>Brings a version into memory: every file verified, the model run once, so that the first request finds it warm.</summary>
internal sealed class ModelLoader(IBlobStore store, IOptions<GatewayOptions> options)
{
    /// <summary>Loads a version; the span of its first load belongs to the trace of the run that made it.</summary>
    /// <exception cref="IOException">A file is missing or not what the manifest says, or storage fails.</exception>
    /// <exception cref="InvalidDataException">The files are whole, but no model.</exception>
    public async Task<LoadedModel> LoadAsync(ModelVersion version, bool isFirst, CancellationToken cancellationToken)
    {
        var run = isFirst ? GatewayTracing.ContextOf(version) : default;
        using var activity = GatewayTracing.Source.StartActivity("model load", ActivityKind.Internal, run);
        activity?.SetTag("llmpipeline.model_version", version.Name);
        try
        {
            var folder = await store.GetVerifiedLocalDirectoryAsync(version.Name, cancellationToken);
            var json = await File.ReadAllTextAsync(Path.Combine(folder, "tokenizer.json"), cancellationToken);
            return await Task.Run(() => Load(version, folder, TokenizerFile.Parse(json)), cancellationToken);
        }
        catch (Exception exception) when (exception is not OperationCanceledException)
        {
            activity?.SetStatus(ActivityStatusCode.Error, exception.Message);
            throw;
        }
    }

    private LoadedModel Load(ModelVersion version, string folder, ITokenizer tokenizer)
    {
        var model = ModelDirectory.Load(folder, TorchRuntime.ResolveDevice(options.Value.Device));
        try
        {
            if (model.VocabularySize != tokenizer.VocabularySize)
            {
                throw new InvalidDataException(
                    $"{version.Name}: config.json has {model.VocabularySize} ids, tokenizer.json {tokenizer.VocabularySize}. Publish the model with its own tokenizer.");
            }

            if (model is LanguageModel { Config: { Objective: Objective.Masked, Classes: 0 } })
            {
                throw new InvalidDataException($"{version.Name} was trained to fill in masked tokens (objective: masked) and continues no text, so it is not served. Fine-tune it, or publish a model with objective: causal.");
            }

            if (model is LanguageModel { Config.Labels: { } labels } classifier)
            {
                classifier.ClassifyDocument([], new double[labels.Count]);
            }
            else
            {
                using var state = model.BeginGeneration(1);
                state.Append([model.EndOfTextId], new float[model.VocabularySize]);
            }

            return new LoadedModel(version with { Context = model.Context, ParameterCount = model.ParameterCount }, model, tokenizer);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }
}
