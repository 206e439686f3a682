using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>The networks that a spec can name.</summary>
internal static class ModelPresets
{
    /// <summary>The preset of a spec that names none, nor an architecture.</summary>
    public const string Default = "gpt-tiny";

    /// <summary>Architectures with attention.</summary>
    public static readonly string[] Transformers = ["gpt2", "llama"];

    /// <summary>All presets by name.</summary>
    public static readonly IReadOnlyDictionary<string, ModelSpec> All = new Dictionary<string, ModelSpec>(StringComparer.Ordinal)
    {
        ["gpt-nano"] = Gpt(layers: 3, width: 128, heads: 4, context: 64),
        ["gpt-tiny"] = Gpt(layers: 4, width: 192, heads: 6, context: 128),
        ["gpt-small"] = Gpt(layers: 6, width: 384, heads: 6, context: 256),
        ["gpt2"] = Gpt(layers: 12, width: 768, heads: 12, context: 1024),
        ["llama-tiny"] = Llama(layers: 4, width: 192, heads: 6, context: 128),
        ["llama-small"] = Llama(layers: 6, width: 384, heads: 6, context: 256),
        ["rnn-small"] = Recurrent("rnn", layers: 2, width: 128, context: 64, dropout: 0),
        ["lstm-small"] = Recurrent("lstm", layers: 2, width: 128, context: 64, dropout: 0),
        ["gru-small"] = Recurrent("gru", layers: 2, width: 128, context: 64, dropout: 0),
        ["lstm-medium"] = Recurrent("lstm", layers: 2, width: 650, context: 35, dropout: 0.5),
        ["feed-forward-small"] = new() { Architecture = "feed-forward", Layers = 1, Width = 256, EmbeddingWidth = 64, Window = 8, Context = 64, Dropout = 0, Bias = true },
    };

    /// <summary>The preset of a spec that names an architecture only.</summary>
    public static string DefaultOf(string architecture) => architecture switch
    {
        "llama" => "llama-tiny",
        "rnn" or "lstm" or "gru" or "feed-forward" => $"{architecture}-small",
        _ => Default,
    };

    private static ModelSpec Gpt(int layers, int width, int heads, int context) =>
        new() { Architecture = "gpt2", Layers = layers, Width = width, Heads = heads, Context = context, Dropout = 0, Bias = true };

    private static ModelSpec Recurrent(string architecture, int layers, int width, int context, double dropout) =>
        new() { Architecture = architecture, Layers = layers, Width = width, Context = context, Dropout = dropout, Bias = true };

    private static ModelSpec Llama(int layers, int width, int heads, int context) =>
        new() { Architecture = "llama", Layers = layers, Heads = heads, KvHeads = 2, Width = width, Context = context, Dropout = 0, Bias = false };
}
