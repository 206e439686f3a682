namespace LlmPipeline.Models.Tests;

/// <summary>rnn, lstm and gru once more, in plain double-precision loops over the equations that torch.nn documents.</summary>
internal sealed class ReferenceRecurrent(ModelConfig config, IReadOnlyDictionary<string, double[]> tensors)
{
    /// <summary>Logits of one sequence, [position][id].</summary>
    public double[][] Logits(IReadOnlyList<int> ids)
    {
        var (width, embedding) = (config.Width, config.EmbeddingWidth ?? config.Width);
        var x = ids.Select(id => tensors["embedding.weight"][(id * embedding)..((id + 1) * embedding)]).ToArray();
        for (var layer = 0; layer < config.Layers; layer++)
        {
            var (h, c) = (new double[width], new double[width]);
            for (var t = 0; t < x.Length; t++)
            {
                (h, c) = Step(layer, x[t], h, c);
                x[t] = h;
            }
        }

        if (tensors.TryGetValue("projection.weight", out var projection))
        {
            x = [.. x.Select(row => Product(projection, row))];
        }

        var head = tensors.GetValueOrDefault("lm_head.weight") ?? tensors["embedding.weight"];
        return [.. x.Select(row => Product(head, row, "lm_head.bias"))];
    }

    /// <summary>Sum of token losses of one sequence, in nats.</summary>
    public double LossSum(IReadOnlyList<int> inputs, IReadOnlyList<int> targets)
        => Logits(inputs).Select((row, t) => Math.Log(row.Sum(v => Math.Exp(v - row.Max()))) + row.Max() - row[targets[t]]).Sum();

    private (double[] H, double[] C) Step(int layer, double[] x, double[] h, double[] c)
    {
        var name = config.Architecture;
        var input = Product(tensors[$"{name}.weight_ih_l{layer}"], x, $"{name}.bias_ih_l{layer}");
        var hidden = Product(tensors[$"{name}.weight_hh_l{layer}"], h, $"{name}.bias_hh_l{layer}");
        double Both(int gate, int j) => input[(gate * h.Length) + j] + hidden[(gate * h.Length) + j];
        var (nextH, nextC) = (new double[h.Length], new double[h.Length]);
        for (var j = 0; j < h.Length; j++)
        {
            switch (name)
            {
                case "rnn":
                    nextH[j] = Math.Tanh(Both(0, j));
                    break;
                case "lstm":
                    nextC[j] = (Sigmoid(Both(1, j)) * c[j]) + (Sigmoid(Both(0, j)) * Math.Tanh(Both(2, j)));
                    nextH[j] = Sigmoid(Both(3, j)) * Math.Tanh(nextC[j]);
                    break;
                default:
                    var z = Sigmoid(Both(1, j));
                    var n = Math.Tanh(input[(2 * h.Length) + j] + (Sigmoid(Both(0, j)) * hidden[(2 * h.Length) + j]));
                    nextH[j] = ((1 - z) * n) + (z * h[j]);
                    break;
            }
        }

        return (nextH, nextC);
    }

    private double[] Product(double[] weight, double[] x, string bias = "")
        => [.. Enumerable.Range(0, weight.Length / x.Length).Select(row => Enumerable.Range(0, x.Length).Sum(c => weight[(row * x.Length) + c] * x[c]) + (tensors.GetValueOrDefault(bias)?[row] ?? 0))];

    private static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));
}
