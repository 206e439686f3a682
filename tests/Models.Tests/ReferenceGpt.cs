namespace LlmPipeline.Models.Tests;

/// <summary>GPT-2 once more, in plain double-precision loops, written from the definition and sharing nothing with the network under test but names.</summary>
internal sealed class ReferenceGpt(ModelConfig config, IReadOnlyDictionary<string, double[]> tensors)
{
    public static ReferenceGpt Of(LanguageModel model) => new(model.Config, TestModels.TensorsOf(model));

    /// <summary>Logits of one sequence, [position][id].</summary>
    public double[][] Logits(IReadOnlyList<int> ids)
    {
        var width = config.Width;
        var wte = tensors["transformer.wte.weight"];
        var wpe = tensors["transformer.wpe.weight"];
        var x = ids.Select((id, t) => Enumerable.Range(0, width).Select(c => wte[(id * width) + c] + wpe[(t * width) + c]).ToArray()).ToArray();
        for (var layer = 0; layer < config.Layers; layer++)
        {
            var h = $"transformer.h.{layer}";
            Add(x, Linear($"{h}.attn.c_proj", Attention(Linear($"{h}.attn.c_attn", Norm($"{h}.ln_1", x)))));
            Add(x, Linear($"{h}.mlp.c_proj", Gelu(Linear($"{h}.mlp.c_fc", Norm($"{h}.ln_2", x)))));
        }

        var last = Norm("transformer.ln_f", x);
        return [.. last.Select(row => Enumerable.Range(0, config.VocabularySize).Select(v => Enumerable.Range(0, width).Sum(c => row[c] * wte[(v * width) + c])).ToArray())];
    }

    /// <summary>Sum of token losses of one sequence, in nats.</summary>
    public double LossSum(IReadOnlyList<int> inputs, IReadOnlyList<int> targets)
        => Logits(inputs).Select((row, t) => targets[t] == LanguageModel.IgnoredTarget ? 0 : Math.Log(row.Sum(v => Math.Exp(v - row.Max()))) + row.Max() - row[targets[t]]).Sum();

    private static void Add(double[][] x, double[][] y)
    {
        for (var t = 0; t < x.Length; t++)
        {
            for (var c = 0; c < x[t].Length; c++)
            {
                x[t][c] += y[t][c];
            }
        }
    }

    private double[][] Norm(string name, double[][] x) => [.. x.Select(row =>
    {
        var mean = row.Average();
        var variance = row.Average(v => (v - mean) * (v - mean));
        return row.Select((v, c) => ((v - mean) / Math.Sqrt(variance + config.NormEpsilon) * tensors[$"{name}.weight"][c]) + Bias(name, c)).ToArray();
    })];

    private double[][] Linear(string name, double[][] x)
    {
        var weight = tensors[$"{name}.weight"];
        var columns = weight.Length / x[0].Length;
        return [.. x.Select(row => Enumerable.Range(0, columns).Select(j => Bias(name, j) + row.Select((v, i) => v * weight[(i * columns) + j]).Sum()).ToArray())];
    }

    private double Bias(string name, int index) => tensors.TryGetValue($"{name}.bias", out var bias) ? bias[index] : 0;

    private double[][] Attention(double[][] qkv)
    {
        var (width, size) = (config.Width, config.Width / config.Heads);
        var y = qkv.Select(_ => new double[width]).ToArray();
        for (var h = 0; h < config.Heads; h++)
        {
            for (var t = 0; t < qkv.Length; t++)
            {
                var scores = Enumerable.Range(0, config.Objective == Objective.Masked ? qkv.Length : t + 1)
                    .Select(s => Enumerable.Range(h * size, size).Sum(c => qkv[t][c] * qkv[s][width + c]) / Math.Sqrt(size)).ToArray();
                var weights = scores.Select(s => Math.Exp(s - scores.Max())).ToArray();
                for (var c = h * size; c < (h + 1) * size; c++)
                {
                    y[t][c] = weights.Select((w, s) => w * qkv[s][(2 * width) + c]).Sum() / weights.Sum();
                }
            }
        }

        return y;
    }

    private static double[][] Gelu(double[][] x)
        => [.. x.Select(row => row.Select(v => 0.5 * v * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (v + (0.044715 * v * v * v))))).ToArray())];
}
