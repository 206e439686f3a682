using LlmPipeline.Storage;
using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>Model directories in the Hugging Face layout: <c>config.json</c>, <c>model.safetensors</c>, <c>tokenizer.json</c>, <c>generation_config.json</c>.</summary>
/// <remarks>
/// A network without biases is written with biases of 0 and <c>"bias": false</c> in <c>config.json</c>: any GPT-2 loads and
/// computes the same, and this project leaves them out again.
/// </remarks>
public static class ModelDirectory
{
    /// <summary>File with the sizes of the network.</summary>
    public const string ConfigFile = "config.json";

    /// <summary>File with the weights.</summary>
    public const string WeightsFile = "model.safetensors";

    /// <summary>File with the tokenizer.</summary>
    public const string TokenizerFile = "tokenizer.json";

    /// <summary>File with settings for generation.</summary>
    public const string GenerationConfigFile = "generation_config.json";

    /// <summary>Writes the four files through a directory writer; the caller may add files and commits.</summary>
    public static async Task WriteAsync(DirectoryWriter directory, LanguageModel model, string tokenizerJson, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentNullException.ThrowIfNull(model);
        await directory.WriteTextAsync(ConfigFile, GptConfigJson.Write(model.Config), cancellationToken).ConfigureAwait(false);
        await directory.WriteAsync(WeightsFile, (stream, token) => GptWeights.WriteAsync(stream, model, token), cancellationToken).ConfigureAwait(false);
        await directory.WriteTextAsync(TokenizerFile, tokenizerJson, cancellationToken).ConfigureAwait(false);
        await directory.WriteTextAsync(GenerationConfigFile, GptConfigJson.WriteGeneration(model.Config), cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Loads a model from a local folder, written by this project or by another implementation of the same layout.</summary>
    /// <exception cref="InvalidDataException">A file is missing or wrong; the message names file, tensor and what was expected.</exception>
    public static LanguageModel Load(string folder, torch.Device device)
    {
        var config = ReadConfig(folder);
        using var weights = GptWeights.Open(Existing(folder, WeightsFile), config);
        var model = new Gpt(config, device);
        try
        {
            GptWeights.Read(weights, model);
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>Replaces a model's weights by those in a folder, read as <see cref="Load"/> does.</summary>
    /// <exception cref="InvalidDataException">The file is wrong or of another config; the message names file, tensor and what was expected.</exception>
    public static void LoadWeights(string folder, LanguageModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var weights = GptWeights.Open(Existing(folder, WeightsFile), model.Config);
        GptWeights.Read(weights, model);
    }

    /// <summary>Reads the sizes of the network in a local folder.</summary>
    /// <exception cref="InvalidDataException">The file is missing or wrong; the message names file and key.</exception>
    public static ModelConfig ReadConfig(string folder)
    {
        var path = Existing(folder, ConfigFile);
        return GptConfigJson.Read(File.ReadAllText(path), path);
    }

    private static string Existing(string folder, string file)
    {
        var path = Path.Combine(folder, file);
        return File.Exists(path) ? path : throw new InvalidDataException($"'{path}' is missing: a model directory has {ConfigFile} and {WeightsFile}, in one file.");
    }
}
