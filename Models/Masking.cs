using System.Text.Json.Nodes;

namespace LlmPipeline.Models;

/// <summary>What a network is trained to predict.</summary>
public enum Objective
{
    /// <summary>Each token, from those before it.</summary>
    Causal,

    /// <summary>Tokens that are masked, from all others.</summary>
    Masked,
}

/// <summary>
/// The corruption of masked language modelling (Devlin et al. 2019, 3.1): 15 % of the places of a sequence are predicted; of
/// those, 80 % show the mask token, 10 % any token, 10 % what is there. As in BERT's own code their number is fixed by the
/// length, so that every step predicts as many. All tokens can be chosen, the ends of documents too.
/// </summary>
/// <param name="VocabularySize">Number of ids.</param>
/// <param name="MaskTokenId">Id of the mask token.</param>
public sealed record Masking(int VocabularySize, int MaskTokenId)
{
    internal const double Share = 0.15;
    private const double MaskedShare = 0.8;
    private const double RandomShare = 0.1;

    /// <summary>The masking of a network; null of one that predicts the next token.</summary>
    public static Masking? Of(ModelConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Objective == Objective.Masked ? new Masking(config.VocabularySize, config.MaskTokenId!.Value) : null;
    }

    /// <summary>Seed of a sequence that is measured: the same places for every model, run and worker.</summary>
    /// <param name="sequence">Its number.</param>
    public static ulong MeasuringSeed(long sequence) => Seeds.Derive(0, "mask-measuring", sequence);

    /// <summary>Number of places that are predicted of a sequence.</summary>
    public static int CountOf(int length) => Math.Max(1, (int)Math.Round(Share * length, MidpointRounding.AwayFromZero));

    /// <summary>Chooses the places of a sequence, and what is seen there.</summary>
    /// <param name="ids_T">The text.</param>
    /// <param name="seed">Of this sequence.</param>
    /// <param name="inputs_T">Receives what the network sees.</param>
    /// <param name="targets_T">Receives what it is to predict: the text at the chosen places, elsewhere <see cref="LanguageModel.IgnoredTarget"/>.</param>
    public void Apply(ReadOnlySpan<int> ids_T, ulong seed, Span<int> inputs_T, Span<int> targets_T)
    {
        ids_T.CopyTo(inputs_T);
        targets_T.Fill(LanguageModel.IgnoredTarget);
        var places = new int[ids_T.Length];
        for (var i = 0; i < places.Length; i++)
        {
            places[i] = i;
        }

        // The first numbers of a shuffle (Fisher and Yates), and for each place two numbers more.
        var count = CountOf(ids_T.Length);
        for (var i = 0; i < count; i++)
        {
            var other = i + (int)(Seeds.Uniform(seed, (ulong)(3 * i)) * (places.Length - i));
            (places[i], places[other]) = (places[other], places[i]);
            var place = places[i];
            targets_T[place] = ids_T[place];
            var choice = Seeds.Uniform(seed, (ulong)((3 * i) + 1));
            inputs_T[place] = choice < MaskedShare ? MaskTokenId
                : choice < MaskedShare + RandomShare ? (int)(Seeds.Uniform(seed, (ulong)((3 * i) + 2)) * VocabularySize)
                : ids_T[place];
        }
    }
}

/// <summary>What <c>config.json</c> says of the objective: this project's own keys, which a causal network does not have.</summary>
internal static class ObjectiveConfig
{
    private const string Key = "objective";
    private const string MaskTokenKey = "mask_token_id";
    private const string Masked = "masked";

    /// <summary>Adds the keys of a masked network. Its <c>architectures</c> is none that transformers has, which would compute another function.</summary>
    public static void Write(JsonObject json, ModelConfig config)
    {
        if (config.Objective == Objective.Masked)
        {
            json["architectures"] = new JsonArray(config.Architecture == "gpt2" ? "GPT2ForMaskedLM" : "LlamaForMaskedLM");
            json[Key] = Masked;
            json[MaskTokenKey] = config.MaskTokenId;
        }
    }

    /// <summary>Adds objective and mask token to a config that was read.</summary>
    /// <exception cref="InvalidDataException">A key is wrong.</exception>
    public static ModelConfig Read(ConfigKeys keys, ModelConfig config) => keys.Text(Key, "causal") switch
    {
        "causal" => config,
        Masked => config with { Objective = Objective.Masked, MaskTokenId = keys.Integer(MaskTokenKey) },
        var other => throw keys.Wrong(Key, $"'{other}'; there is causal and {Masked}"),
    };
}
