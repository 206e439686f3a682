using System.Globalization;
using System.Text.Json.Nodes;
using TorchSharp;

namespace LlmPipeline.Models.Networks;

/// <summary>Recurrent networks in files: the layers' tensors are named and shaped as torch.nn.RNN, LSTM and GRU have them; the rest is this project's own.</summary>
internal sealed class RecurrentArchitecture(RecurrentCell cell) : OwnFormatArchitecture
{
    public override string Name => cell.Name;

    public override int? BlockOf(string name)
        => name.StartsWith($"{Name}.", StringComparison.Ordinal) ? int.Parse(name.AsSpan(name.LastIndexOf('l') + 1), CultureInfo.InvariantCulture) : null;

    public override void Validate(ModelConfig config)
    {
        ModelConfig.Check(config.Heads == 0, $"Heads is {config.Heads}; '{Name}' has no attention: leave it 0.");
        ModelConfig.Check(config.Window == 0 && !config.DirectConnections, $"Window and DirectConnections are of 'feed-forward', not of '{Name}'.");
    }

    public override IEnumerable<TensorShape> Tensors(ModelConfig config)
    {
        long E = config.EmbeddingWidth ?? config.Width, H = config.Width, G = cell.Gates * H;
        yield return new("embedding.weight", [config.VocabularySize, E]);
        for (var i = 0; i < config.Layers; i++)
        {
            yield return new($"{Name}.weight_ih_l{i}", [G, i == 0 ? E : H]);
            yield return new($"{Name}.weight_hh_l{i}", [G, H]);
        }

        foreach (var weight in HeadWeights(config))
        {
            yield return weight;
        }

        for (var i = 0; config.Bias && i < config.Layers; i++)
        {
            yield return new($"{Name}.bias_ih_l{i}", [G]);
            yield return new($"{Name}.bias_hh_l{i}", [G]);
        }

        if (config.Bias)
        {
            yield return new("lm_head.bias", [config.VocabularySize]);
        }
    }

    // Each gate by itself: weights of the input uniform up to sqrt(6 / (inputs + width)) (Glorot and Bengio 2010), those of the state
    // orthogonal (Saxe et al. 2014), biases 0. torch.nn's values up to 1 / sqrt(width) are smaller, and an LSTM learns more slowly with
    // them (docs/log.md). The head is uniform up to 1 / sqrt(width); an embedding is standard normal, or, where it is the head as well,
    // uniform like a head.
    public override void Initialize(ModelConfig config, ParameterView view, Span<float> values, ulong seed)
    {
        var width = config.Width;
        if (view.Name == Embedding && !config.Tied)
        {
            ParameterLayout.FillNormal(values, 1, seed);
        }
        else if (view.Name == Embedding || BlockOf(view.Name) is null)
        {
            ParameterLayout.FillUniform(values, 1 / Math.Sqrt(view.Name == Embedding ? view.Shape[1] : width), seed);
        }
        else if (view.Shape.Count == 1)
        {
            values.Clear();
        }
        else if (view.Name.Contains(".weight_ih_", StringComparison.Ordinal))
        {
            ParameterLayout.FillUniform(values, Math.Sqrt(6.0 / (view.Shape[1] + width)), seed);
        }
        else
        {
            for (var gate = 0; gate < cell.Gates; gate++)
            {
                Orthogonal.Fill(values.Slice(gate * width * width, width * width), width, Seeds.Derive((long)seed, "gate", gate));
            }
        }
    }

    public override LanguageModel Create(ModelConfig config, torch.Device device) => new Recurrent(config, cell, device);

    protected override void WriteOwn(ModelConfig config, JsonObject json)
    {
        json["variational_dropout"] = config.VariationalDropout;
        json["recurrent_dropout"] = config.RecurrentDropout;
    }

    protected override ModelConfig ReadOwn(ConfigKeys keys, ModelConfig config) =>
        config with { VariationalDropout = keys.Bool("variational_dropout", false), RecurrentDropout = keys.Real("recurrent_dropout", 0) };
}
