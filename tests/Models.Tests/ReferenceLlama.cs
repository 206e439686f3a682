namespace LlmPipeline.Models.Tests;

/// <summary>Llama once more, in plain double-precision loops, written from the definition and sharing nothing with the network under test but names.</summary>
internal sealed class ReferenceLlama(ModelConfig config, IReadOnlyDictionary<string, double[]> tensors)
{
    private readonly int _headSize = config.HeadSize > 0 ? config.HeadSize : config.Width / config.Heads;

    /// <summary>Logits of one sequence, [position][id].</summary>
    public double[][] Logits(IReadOnlyList<int> ids)
    {
        var width = config.Width;
        var embedding = tensors["model.embed_tokens.weight"];
        var x = ids.Select(id => embedding[(id * width)..((id + 1) * width)]).ToArray();
        for (var layer = 0; layer < config.Layers; layer++)
        {
            var name = $"model.layers.{layer}";
            var normed = Norm($"{name}.input_layernorm", x);
            var (q, k, v) = (Linear($"{name}.self_attn.q_proj", normed), Linear($"{name}.self_attn.k_proj", normed), Linear($"{name}.self_attn.v_proj", normed));
            x = Sum(x, Linear($"{name}.self_attn.o_proj", Attention(Rotated(q, config.Heads), Rotated(k, config.KvHeads), v)));
            normed = Norm($"{name}.post_attention_layernorm", x);
            var (gate, up) = (Linear($"{name}.mlp.gate_proj", normed), Linear($"{name}.mlp.up_proj", normed));
            x = Sum(x, Linear($"{name}.mlp.down_proj", [.. gate.Zip(up, (g, u) => g.Zip(u, (a, b) => a / (1 + Math.Exp(-a)) * b).ToArray())]));
        }

        return Linear(config.Tied ? "model.embed_tokens" : "lm_head", Norm("model.norm", x));
    }

    /// <summary>Sum of token losses of one sequence, in nats.</summary>
    public double LossSum(IReadOnlyList<int> inputs, IReadOnlyList<int> targets)
        => Logits(inputs).Select((row, t) => targets[t] == LanguageModel.IgnoredTarget ? 0 : Math.Log(row.Sum(v => Math.Exp(v - row.Max()))) + row.Max() - row[targets[t]]).Sum();

    private static double[][] Sum(double[][] x, double[][] y) => [.. x.Zip(y, (a, b) => a.Zip(b, (p, q) => p + q).ToArray())];

    private double[][] Norm(string name, double[][] x) => [.. x.Select(row =>
    {
        var scale = 1 / Math.Sqrt(row.Average(v => v * v) + config.NormEpsilon);
        return row.Select((v, c) => v * scale * tensors[$"{name}.weight"][c]).ToArray();
    })];

    private double[][] Linear(string name, double[][] x)
    {
        var weight = tensors[$"{name}.weight"];
        var (inputs, outputs) = (x[0].Length, weight.Length / x[0].Length);
        return [.. x.Select(row => Enumerable.Range(0, outputs).Select(j => row.Select((v, i) => v * weight[(j * inputs) + i]).Sum()).ToArray())];
    }

    // As complex numbers: element i of the first half is the real part, element i of the second half the imaginary part.
    private double[][] Rotated(double[][] x, int heads) => [.. x.Select((row, t) =>
    {
        var rotated = new double[row.Length];
        for (var h = 0; h < heads; h++)
        {
            for (var i = 0; i < _headSize / 2; i++)
            {
                var (re, im) = ((h * _headSize) + i, (h * _headSize) + (_headSize / 2) + i);
                var value = new System.Numerics.Complex(row[re], row[im])
                    * System.Numerics.Complex.FromPolarCoordinates(1, t / Math.Pow(config.RopeTheta, 2.0 * i / _headSize));
                (rotated[re], rotated[im]) = (value.Real, value.Imaginary);
            }
        }

        return rotated;
    })];

    private double[][] Attention(double[][] q, double[][] k, double[][] v)
    {
        var y = q.Select(row => new double[row.Length]).ToArray();
        for (var h = 0; h < config.Heads; h++)
        {
            var (own, shared) = (h * _headSize, h / (config.Heads / config.KvHeads) * _headSize);
            for (var t = 0; t < q.Length; t++)
            {
                var weights = Enumerable.Range(0, config.Objective == Objective.Masked ? q.Length : t + 1)
                    .Select(s => Math.Exp(Enumerable.Range(0, _headSize).Sum(c => q[t][own + c] * k[s][shared + c]) / Math.Sqrt(_headSize))).ToArray();
                for (var c = 0; c < _headSize; c++)
                {
                    y[t][own + c] = weights.Select((w, s) => w * v[s][shared + c]).Sum() / weights.Sum();
                }
            }
        }

        return y;
    }
}
