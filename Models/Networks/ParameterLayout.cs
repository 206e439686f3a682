namespace LlmPipeline.Models.Networks;

/// <summary>Places the tensors of a network in its flat buffer, and fills them with fresh values.</summary>
internal static class ParameterLayout
{
    /// <summary>Elements in 64 bytes: every tensor begins on such a boundary.</summary>
    private const int Alignment = 16;

    /// <summary>Places the tensors of a network in its buffer.</summary>
    /// <exception cref="ArgumentException">There are more elements than a buffer holds.</exception>
    public static (IReadOnlyList<ParameterView> Views, int Length, int DecayedLength) Place(ModelConfig config)
    {
        var views = new List<ParameterView>();
        long offset = 0, decayed = 0;
        foreach (var (name, shape, isBias) in NetworkArchitecture.Of(config.Architecture).Tensors(config))
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

    /// <summary>Fresh values. Each tensor has a seed of its own, made of <paramref name="seed"/> and its name.</summary>
    public static void Initialize(ModelConfig config, long seed, FlatParameters parameters)
    {
        var architecture = NetworkArchitecture.Of(config.Architecture);
        foreach (var view in parameters.Views)
        {
            architecture.Initialize(config, view, parameters.Values.Slice(view.Offset, view.Length), Seeds.Derive(seed, $"init:{view.Name}"));
        }

        parameters.UploadValues();
    }

    /// <summary>Normal numbers with mean 0 (Box-Muller on two uniform numbers at a time).</summary>
    public static void FillNormal(Span<float> values, double standardDeviation, ulong seed)
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

    /// <summary>Numbers between -bound and bound, all equally likely.</summary>
    public static void FillUniform(Span<float> values, double bound, ulong seed)
    {
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = (float)(bound * ((2 * Seeds.Uniform(seed, (ulong)i)) - 1));
        }
    }
}
