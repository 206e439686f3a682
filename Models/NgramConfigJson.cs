using System.Text.Json.Nodes;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Models;

/// <summary>What <c>config.json</c> says of an n-gram model.</summary>
/// <param name="Options">Order and smoothing.</param>
/// <param name="VocabularySize">Number of ids.</param>
/// <param name="EndOfTextId">Id between documents.</param>
/// <param name="NgramCount">Number of n-grams of all orders.</param>
/// <param name="TrainedOn">Fingerprint of the dataset whose training split was counted; null when it is not known.</param>
internal sealed record NgramConfigJson(NgramOptions Options, int VocabularySize, int EndOfTextId, int NgramCount, string? TrainedOn)
{
    /// <summary>Writes <c>config.json</c>.</summary>
    public static string Write(NgramTokenModel model) => new JsonObject
    {
        [ConfigKeys.ModelType] = NgramTokenModel.Architecture,
        ["vocab_size"] = model.VocabularySize,
        ["n_positions"] = model.Context,
        ["bos_token_id"] = model.EndOfTextId,
        ["eos_token_id"] = model.EndOfTextId,
        ["order"] = model.Ngrams.Order,
        ["smoothing"] = model.Ngrams.Options.SmoothingName,
        ["k"] = model.Ngrams.Options.K,
        ["ngram_count"] = model.Ngrams.Counts.NgramCount,
        ["dataset_fingerprint"] = model.TrainedOn,
    }.ToJsonString(ConfigKeys.Indented) + "\n";

    /// <summary>Reads <c>config.json</c>.</summary>
    /// <exception cref="InvalidDataException">A key is missing or wrong.</exception>
    public static NgramConfigJson Read(ConfigKeys keys)
    {
        keys.Require(ConfigKeys.ModelType, NgramTokenModel.Architecture);
        var smoothing = keys.Text("smoothing", "");
        if (!NgramOptions.SmoothingNames.Contains(smoothing))
        {
            throw keys.Wrong("smoothing", $"'{smoothing}'; there are {string.Join(", ", NgramOptions.SmoothingNames)}");
        }

        var options = new NgramOptions { Order = keys.Integer("order"), Smoothing = NgramOptions.ParseSmoothing(smoothing), K = keys.Real("k", 1) };
        try
        {
            options.Validate();
        }
        catch (ArgumentException exception)
        {
            throw new InvalidDataException($"'{keys.Path}' does not describe an n-gram model: {exception.Message}", exception);
        }

        var trainedOn = keys.Text("dataset_fingerprint", "");
        return new NgramConfigJson(options, keys.Integer("vocab_size"), keys.Integer("eos_token_id"), keys.Integer("ngram_count"), trainedOn.Length > 0 ? trainedOn : null);
    }

    /// <summary>Reads the model that goes with it.</summary>
    /// <param name="path">Of the counts.</param>
    /// <exception cref="InvalidDataException">The file is damaged, or belongs to another <c>config.json</c>.</exception>
    public NgramTokenModel ReadModel(string path)
    {
        var counts = NgramCounts.Read(path);
        Check("order", Options.Order, counts.Order);
        Check("vocab_size", VocabularySize, counts.VocabularySize);
        Check("eos_token_id", EndOfTextId, counts.EndOfTextId);
        Check("ngram_count", NgramCount, counts.NgramCount);
        return new NgramTokenModel(new NgramModel(counts, Options), TrainedOn);

        void Check(string key, int said, int found)
        {
            if (said != found)
            {
                throw new InvalidDataException($"'{path}' does not go with its config.json: {key} is {said} there, and {found} here. Use the two files that were written together.");
            }
        }
    }
}
