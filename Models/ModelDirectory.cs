using System.Text.Json.Nodes;
using LlmPipeline.Models.Networks;
using LlmPipeline.Storage;
using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>What a model directory holds, told without loading it.</summary>
/// <param name="Architecture"><c>model_type</c>: that of a network (see <see cref="ModelConfig.Architecture"/>), or "ngram".</param>
/// <param name="VocabularySize">Number of ids.</param>
/// <param name="Context">Most tokens that a prediction can depend on.</param>
/// <param name="ParameterCount">Number of parameters; n-grams of an n-gram model.</param>
/// <param name="Files">The files that make the model.</param>
public sealed record ModelDescription(string Architecture, int VocabularySize, int Context, long ParameterCount, IReadOnlyList<string> Files);

/// <summary>
/// Model directories in the Hugging Face layout: <c>config.json</c>, <c>model.safetensors</c> (or shards with
/// <c>model.safetensors.index.json</c>), <c>tokenizer.json</c>, <c>generation_config.json</c>. An n-gram model has <c>ngrams.bin</c> instead of weights.
/// </summary>
/// <remarks>
/// A network without biases is written with biases of 0 and <c>"bias": false</c> in <c>config.json</c>: any GPT-2 loads and
/// computes the same, and this project leaves them out again.
/// </remarks>
public static class ModelDirectory
{
    /// <summary>File that says what the model is.</summary>
    public const string ConfigFile = "config.json";

    /// <summary>File with the weights of a network.</summary>
    public const string WeightsFile = WeightFiles.SingleFile;

    /// <summary>File with the counts of an n-gram model.</summary>
    public const string NgramsFile = "ngrams.bin";

    /// <summary>File with the tokenizer.</summary>
    public const string TokenizerFile = "tokenizer.json";

    /// <summary>File with settings for generation.</summary>
    public const string GenerationConfigFile = "generation_config.json";

    /// <summary>
    /// Writes the files through a directory writer, and those of an adapter beside them where the network has low-rank updates;
    /// the caller may add files and commits.
    /// </summary>
    /// <param name="directory">Where to.</param>
    /// <param name="model">The model.</param>
    /// <param name="tokenizerJson">Its tokenizer's file.</param>
    /// <param name="values">A network's trainable parameters, laid out as <see cref="FlatParameters.Values"/>; null for its present ones.</param>
    /// <param name="maxShardBytes">Weights of more bytes are written in several files, as transformers does.</param>
    /// <param name="cancellationToken">Ends the writing.</param>
    public static async Task WriteAsync(
        DirectoryWriter directory, ITokenModel model, string tokenizerJson, float[]? values = null, long maxShardBytes = WeightFiles.MaxShardBytes, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentNullException.ThrowIfNull(model);
        switch (model)
        {
            case LanguageModel network:
                await directory.WriteTextAsync(ConfigFile, WriteConfig(network.Config), cancellationToken).ConfigureAwait(false);
                await WeightFiles.WriteAsync(directory, NetworkWeights.Entries(network, values), maxShardBytes, cancellationToken).ConfigureAwait(false);
                break;
            case NgramTokenModel ngrams:
                await directory.WriteTextAsync(ConfigFile, NgramConfigJson.Write(ngrams), cancellationToken).ConfigureAwait(false);
                await directory.WriteAsync(NgramsFile, (stream, token) => Task.Run(() => ngrams.Ngrams.Counts.Write(stream, token), token), cancellationToken).ConfigureAwait(false);
                break;
            default:
                throw new ArgumentException($"{model.GetType().Name} has no file format.", nameof(model));
        }

        await directory.WriteTextAsync(TokenizerFile, tokenizerJson, cancellationToken).ConfigureAwait(false);
        await directory.WriteTextAsync(GenerationConfigFile, GenerationConfig(model), cancellationToken).ConfigureAwait(false);
        if (model is LanguageModel { Config.Tuning.Lora: not null } adapted)
        {
            await AdapterFiles.WriteAsync(directory, adapted, values, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Loads a model from a local folder, written by this project or by another implementation of the same layout.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="device">Where a network is to compute.</param>
    /// <exception cref="InvalidDataException">A file is missing or wrong; the message names file, tensor or place, and what was expected.</exception>
    public static ITokenModel Load(string folder, torch.Device device)
    {
        var keys = Config(folder);
        return IsNgram(keys) ? NgramConfigJson.Read(keys).ReadModel(Existing(folder, NgramsFile)) : LoadNetwork(folder, device);
    }

    /// <summary>Loads a network from a local folder; an adapter beside its weights is merged into them.</summary>
    /// <exception cref="InvalidDataException">A file is missing or wrong; the message names file, tensor and what was expected.</exception>
    public static LanguageModel LoadNetwork(string folder, torch.Device device)
    {
        var config = ReadConfig(folder);
        using var weights = NetworkWeights.Open(folder, config);
        var model = NetworkArchitecture.Of(config.Architecture).Create(config, device);
        try
        {
            NetworkWeights.Read(weights, model);
            if (AdapterFiles.Exist(folder))
            {
                AdapterFiles.Merge(folder, model);
            }

            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>Replaces a network's weights by those in a folder, read as <see cref="LoadNetwork"/> does.</summary>
    /// <exception cref="InvalidDataException">The file is wrong or of another config; the message names file, tensor and what was expected.</exception>
    public static void LoadWeights(string folder, LanguageModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var weights = NetworkWeights.Open(folder, model.Config);
        NetworkWeights.Read(weights, model);
        if (model.Config.Tuning?.Lora is not null)
        {
            AdapterFiles.Read(folder, model);
        }
    }

    /// <summary>Last parts of the names of the layers that LoRA can adapt; empty where there are none.</summary>
    public static IReadOnlyList<string> AdapterTargets(ModelConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return NetworkArchitecture.Of(config.Architecture).AdapterTargets;
    }

    /// <summary>Whether a file of the directory belongs to an adapter.</summary>
    public static bool IsAdapterFile(string file) => file is AdapterFiles.ConfigFile or AdapterFiles.WeightsFile;

    /// <summary>Whether the adapter in a folder was trained together with the token embedding (<see cref="TuningOptions.TrainedEmbedding"/>); false without an adapter.</summary>
    /// <param name="folder">A local folder.</param>
    /// <param name="config">Its <c>config.json</c>.</param>
    /// <exception cref="InvalidDataException">The adapter's config is not JSON.</exception>
    public static bool AdapterTrainsEmbedding(string folder, ModelConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return AdapterFiles.Exist(folder) && AdapterFiles.HasModule(folder, NetworkArchitecture.Of(config.Architecture).Embedding);
    }

    /// <summary>Names of the classes of a classifier; null of a model that continues text.</summary>
    /// <param name="config">Text of its <c>config.json</c>.</param>
    /// <param name="path">Of the file, for messages.</param>
    /// <exception cref="InvalidDataException">They are not numbered from 0 on.</exception>
    public static IReadOnlyList<string>? LabelsOf(string config, string path)
    {
        using var document = System.Text.Json.JsonDocument.Parse(config);
        return ClassifierConfig.Labels(new ConfigKeys(document.RootElement, path));
    }

    /// <summary>Reads the sizes of the network in a local folder.</summary>
    /// <exception cref="InvalidDataException">The file is missing or wrong; the message names file and key.</exception>
    public static ModelConfig ReadConfig(string folder) => ReadConfig(Config(folder));

    /// <summary>Says what is in a local folder, without loading it.</summary>
    /// <exception cref="InvalidDataException">A file is missing or wrong; the message names file and key.</exception>
    public static ModelDescription Describe(string folder)
    {
        var keys = Config(folder);
        if (IsNgram(keys))
        {
            var ngrams = NgramConfigJson.Read(keys);
            return new ModelDescription(NgramTokenModel.Architecture, ngrams.VocabularySize, ngrams.Options.Order - 1, ngrams.NgramCount,
                [ConfigFile, NgramsFile, TokenizerFile, GenerationConfigFile]);
        }

        var config = ReadConfig(keys);
        return new ModelDescription(config.Architecture, config.VocabularySize, config.Context, NetworkWeights.CountParameters(folder, config),
            [ConfigFile, .. WeightFiles.NamesIn(folder), TokenizerFile, GenerationConfigFile, .. AdapterFiles.Exist(folder) ? [AdapterFiles.ConfigFile, AdapterFiles.WeightsFile] : Array.Empty<string>()]);
    }

    private static string WriteConfig(ModelConfig config)
    {
        var json = NetworkArchitecture.Of(config.Architecture).WriteConfig(config);
        ObjectiveConfig.Write(json, config);
        ClassifierConfig.Write(json, config);
        return json.ToJsonString(ConfigKeys.Indented) + "\n";
    }

    private static ModelConfig ReadConfig(ConfigKeys keys)
    {
        var name = keys.Text(ConfigKeys.ModelType, "");
        var architecture = NetworkArchitecture.All.FirstOrDefault(a => a.Name == name)
            ?? throw keys.Wrong(ConfigKeys.ModelType, $"'{name}'; {string.Join(", ", NetworkArchitecture.All.Select(a => $"'{a.Name}'"))} and '{NgramTokenModel.Architecture}' are supported");
        var config = ClassifierConfig.Read(keys, ObjectiveConfig.Read(keys, architecture.ReadConfig(keys)));
        return ParameterLayout.Require(config, $"'{keys.Path}' does not describe a network");
    }

    private static bool IsNgram(ConfigKeys keys) => keys.Text(ConfigKeys.ModelType, "") == NgramTokenModel.Architecture;

    private static ConfigKeys Config(string folder) => ConfigKeys.Read(Existing(folder, ConfigFile));

    private static string GenerationConfig(ITokenModel model) => new JsonObject
    {
        ["_from_model_config"] = true,
        ["bos_token_id"] = model.EndOfTextId,
        ["eos_token_id"] = model.EndOfTextId,
        ["pad_token_id"] = model.EndOfTextId,
        ["do_sample"] = true,
        ["temperature"] = 1.0,
        ["top_k"] = 0,
        ["top_p"] = 1.0,
    }.ToJsonString(ConfigKeys.Indented) + "\n";

    private static string Existing(string folder, string file)
    {
        var path = Path.Combine(folder, file);
        return File.Exists(path) ? path : throw new InvalidDataException($"'{path}' is missing: a model directory has {ConfigFile}, and {WeightsFile} (in one file, or in shards with an index) or {NgramsFile}.");
    }
}
