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

    // As torch.nn: weights and biases of layers and head are uniform up to 1 / sqrt(width), the forget gate's too (a bias of 1,
    // Jozefowicz et al. 2015, learns more slowly here); an embedding is standard normal, or, where it is the head as well, uniform
    // like a head.
    public override void Initialize(ModelConfig config, ParameterView view, Span<float> values, ulong seed)
    {
        if (view.Name == Embedding && !config.Tied)
        {
            ParameterLayout.FillNormal(values, 1, seed);
        }
        else
        {
            ParameterLayout.FillUniform(values, 1 / Math.Sqrt(view.Name == Embedding ? view.Shape[1] : config.Width), seed);
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
