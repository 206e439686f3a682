using System.Text.Json.Nodes;
using LlmPipeline.Models;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using TorchSharp;

namespace LlmPipeline.Gateway.Tests;

/// <summary>Publishes small networks with a character tokenizer.</summary>
internal static class TinyModel
{
    /// <summary>The characters that the models know.</summary>
    public const string Alphabet = " .,<>()/=1abcdefghijklmnopqrstuvwxyz\u00e9\u4e2d";

    // Decides, whatever the rest of the network says.
    private const float Push = 100;

    /// <summary>Writes a version.</summary>
    /// <param name="storage">The storage folder.</param>
    /// <param name="model">Id of the model.</param>
    /// <param name="version">Counted from 1.</param>
    /// <param name="says">The text that it says over and over (where it begins depends on the prompt's length); null: random text without end.</param>
    /// <param name="inBytes">Every byte of UTF-8 is a token, instead of every character.</param>
    /// <param name="ends">Says nothing: the end-of-text id comes first.</param>
    /// <param name="properties">Of the manifest.</param>
    public static async Task PublishAsync(
        string storage, string model = "tiny", int version = 1, string? says = null, bool inBytes = false, bool ends = false, JsonObject? properties = null)
    {
        TorchRuntime.Initialize();
        ITokenizer tokenizer = inBytes ? BpeTrainer.Train(new WordCounts(), new BpeOptions(BpeTrainer.MinVocabularySize)) : CharacterTokenizer.Create(Alphabet.EnumerateRunes());
        var size = says is null ? 32 : 128;
        var config = new ModelConfig
        {
            VocabularySize = tokenizer.VocabularySize,
            Layers = 1,
            Heads = 2,
            Width = size,
            Context = size,
            EndOfTextId = tokenizer.EndOfTextId,
        };
        using var network = LanguageModel.Create(config, seed: version, torch.CPU);
        if (says is not null)
        {
            Teach(network, tokenizer.Encode(says));
        }
        else
        {
            SetEnd(network, ends ? Push : -Push);
        }

        network.Parameters.UploadValues();
        var directory = BlobStore.Open($"folder={storage}").CreateDirectory($"models/{model}/versions/{version}");
        await ModelDirectory.WriteAsync(directory, network, tokenizer.ToJson());
        await directory.CommitAsync(properties);
    }

    /// <summary>Writes version 1 of a classifier of random weights.</summary>
    public static async Task PublishClassifierAsync(string storage, string model, string[] labels)
    {
        TorchRuntime.Initialize();
        var tokenizer = CharacterTokenizer.Create(Alphabet.EnumerateRunes());
        var config = new ModelConfig
        {
            VocabularySize = tokenizer.VocabularySize,
            Layers = 1,
            Heads = 2,
            Width = 32,
            Context = 32,
            EndOfTextId = tokenizer.EndOfTextId,
            Labels = labels,
        };
        using var network = LanguageModel.Create(config, seed: 1, torch.CPU);
        var directory = BlobStore.Open($"folder={storage}").CreateDirectory($"models/{model}/versions/1");
        await ModelDirectory.WriteAsync(directory, network, tokenizer.ToJson());
        await directory.CommitAsync();
    }

    // The bias of the last norm is large in channel 0, and channel 0 of the embedding is 0 but for the two ids without a character.
    private static void SetEnd(LanguageModel network, float logit)
    {
        var width = network.Config.Width;
        var embedding = Values(network, "transformer.wte.weight");
        Values(network, "transformer.ln_f.bias")[0] = Push;
        for (var id = 0; id < network.Config.VocabularySize; id++)
        {
            embedding[id * width] = id == network.Config.EndOfTextId ? logit / Push : id == CharacterTokenizer.UnknownId ? -1 : 0;
        }
    }

    // Attention and MLP add nothing; position p lights channel p alone, and the embedding gives channel p to the character that comes after p.
    private static void Teach(LanguageModel network, int[] text)
    {
        foreach (var name in (string[])["attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"])
        {
            Values(network, $"transformer.h.0.{name}").Clear();
        }

        var width = network.Config.Width;
        var embedding = Values(network, "transformer.wte.weight");
        var positions = Values(network, "transformer.wpe.weight");
        embedding.Clear();
        positions.Clear();

        // A norm makes the mean of the channels 0; the bias makes up for the channels that are not lit.
        Values(network, "transformer.ln_f.weight").Fill(10);
        Values(network, "transformer.ln_f.bias").Fill(1);
        for (var p = 0; p < width; p++)
        {
            positions[(p * width) + p] = Push;
            embedding[(text[p % text.Length] * width) + p] = 1;
        }
    }

    private static Span<float> Values(LanguageModel network, string name)
    {
        var view = network.Parameters.Views.Single(v => v.Name == name);
        return network.Parameters.Values.Slice(view.Offset, view.Length);
    }
}
