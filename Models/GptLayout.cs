namespace LlmPipeline.Models;

/// <summary>The tensors of a GPT-2: names and shapes of Hugging Face checkpoints, order in the flat buffer, fresh values.</summary>
internal static class GptLayout
{
    /// <summary>Elements in 64 bytes: every tensor begins on such a boundary.</summary>
    private const int Alignment = 16;

    /// <summary>Name and shape of every tensor that a file has, those with two dimensions first. Linear weights are (in, out).</summary>
    public static IEnumerable<(string Name, long[] Shape, bool IsBias)> Tensors(ModelConfig config)
    {
        long C = config.Width;
        yield return ("transformer.wte.weight", [config.VocabularySize, C], false);
        yield return ("transformer.wpe.weight", [config.Context, C], false);
        for (var i = 0; i < config.Layers; i++)
        {
            yield return ($"transformer.h.{i}.attn.c_attn.weight", [C, 3 * C], false);
            yield return ($"transformer.h.{i}.attn.c_proj.weight", [C, C], false);
            yield return ($"transformer.h.{i}.mlp.c_fc.weight", [C, 4 * C], false);
            yield return ($"transformer.h.{i}.mlp.c_proj.weight", [4 * C, C], false);
        }

        for (var i = 0; i < config.Layers; i++)
        {
            yield return ($"transformer.h.{i}.ln_1.weight", [C], false);
            yield return ($"transformer.h.{i}.ln_1.bias", [C], true);
            yield return ($"transformer.h.{i}.attn.c_attn.bias", [3 * C], true);
            yield return ($"transformer.h.{i}.attn.c_proj.bias", [C], true);
            yield return ($"transformer.h.{i}.ln_2.weight", [C], false);
            yield return ($"transformer.h.{i}.ln_2.bias", [C], true);
            yield return ($"transformer.h.{i}.mlp.c_fc.bias", [4 * C], true);
            yield return ($"transformer.h.{i}.mlp.c_proj.bias", [C], true);
        }

        yield return ("transformer.ln_f.weight", [C], false);
        yield return ("transformer.ln_f.bias", [C], true);
    }

    /// <summary>Places the tensors of a network in its buffer.</summary>
    /// <exception cref="ArgumentException">There are more elements than a buffer holds.</exception>
    public static (IReadOnlyList<ParameterView> Views, int Length, int DecayedLength) Place(ModelConfig config)
    {
        var views = new List<ParameterView>();
        long offset = 0, decayed = 0;
        foreach (var (name, shape, isBias) in Tensors(config))
        {
            if (isBias && !config.Bias)
            {
                continue;
            }

            var length = shape.Aggregate(1L, (product, size) => product * size);
            if (offset + length > int.MaxValue - Alignment)
            {
                throw new ArgumentException($"The network has more than {int.MaxValue} parameters. Take fewer layers, less width or a smaller vocabulary.");
            }

            views.Add(new ParameterView(name, shape, (int)offset, (int)length));
            offset += (length + Alignment - 1) / Alignment * Alignment;
            decayed = shape.Length >= 2 ? offset : decayed;
        }

        return (views, (int)offset, (int)decayed);
    }

    /// <summary>
    /// Fresh weights as in GPT-2: normal with standard deviation 0.02, in the projections back to the residual stream divided by
    /// sqrt(2 layers); LayerNorm weights 1, biases 0. Each tensor has a seed of its own, made of <paramref name="seed"/> and its name.
    /// </summary>
    public static void Initialize(ModelConfig config, long seed, FlatParameters parameters)
    {
        var residual = 0.02 / Math.Sqrt(2.0 * config.Layers);
        foreach (var view in parameters.Views)
        {
            var values = parameters.Values.Slice(view.Offset, view.Length);
            if (view.Shape.Count >= 2)
            {
                FillNormal(values, view.Name.EndsWith(".c_proj.weight", StringComparison.Ordinal) ? residual : 0.02, Seeds.Derive(seed, $"init:{view.Name}"));
            }
            else
            {
                values.Fill(view.Name.EndsWith(".weight", StringComparison.Ordinal) ? 1 : 0);
            }
        }

        parameters.UploadValues();
    }

    // Box-Muller on two uniform numbers at a time.
    private static void FillNormal(Span<float> values, double standardDeviation, ulong seed)
    {
        for (var i = 0; i < values.Length; i += 2)
        {
            var radius = standardDeviation * Math.Sqrt(-2 * Math.Log(1 - Seeds.Uniform(seed, (ulong)i)));
            var (sin, cos) = Math.SinCos(2 * Math.PI * Seeds.Uniform(seed, (ulong)i + 1));
            values[i] = (float)(radius * cos);
            if (i + 1 < values.Length)
            {
                values[i + 1] = (float)(radius * sin);
            }
        }
    }
}
