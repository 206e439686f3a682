namespace LlmPipeline.Models.Networks;

/// <summary>Places the tensors of a network in its flat buffer, and fills them with fresh values.</summary>
internal static class ParameterLayout
{
    /// <summary>Elements in 64 bytes: every tensor begins on such a boundary.</summary>
    private const int Alignment = 16;

    /// <summary>Suffix of the name of a layer's A, (rank, in) in memory as in PEFT's files.</summary>
    public const string LoraA = ".lora_A.weight";

    /// <summary>Suffix of the name of a layer's B, (out, rank).</summary>
    public const string LoraB = ".lora_B.weight";

    /// <summary>The classification head, (classes, C), or (classes, 3 C) where three states are read.</summary>
    public const string Score = "score.weight";

    /// <summary>Name and shape of every tensor that the file of a network has: that of the architecture, with the head that the config asks for.</summary>
    public static IEnumerable<TensorShape> TensorsOf(ModelConfig config)
    {
        var architecture = NetworkArchitecture.Of(config.Architecture);
        if (config.Classes == 0)
        {
            return architecture.Tensors(config);
        }

        return architecture.Tensors(config).Where(t => !architecture.IsHead(t.Name)).Prepend(new TensorShape(Score, [config.Classes, config.Width * Poolings.States(config.Pooling)]));
    }

    /// <summary>Places the tensors of a network in its buffers.</summary>
    /// <exception cref="ArgumentException">There are more elements than a buffer holds.</exception>
    public static ParameterPlaces Place(ModelConfig config)
    {
        var architecture = NetworkArchitecture.Of(config.Architecture);
        var trained = new Buffer();
        var frozen = new Buffer();
        var tensors = TensorsOf(config).Where(t => config.Bias || !t.IsBias).ToList();
        if (config.Tuning?.Lora is { } lora)
        {
            foreach (var (name, shape, _) in tensors.Where(t => IsAdapted(architecture, lora, t)))
            {
                var (input, output) = architecture.InputFirst ? (shape[0], shape[1]) : (shape[1], shape[0]);
                var layer = name[..^".weight".Length];
                trained.Add(new(layer + LoraA, [lora.Rank, input]));
                trained.Add(new(layer + LoraB, [output, lora.Rank]));
            }
        }

        foreach (var tensor in tensors)
        {
            (IsFrozen(config.Tuning, architecture, tensor.Name) ? frozen : trained).Add(tensor);
        }

        if (trained.Views.Count == 0)
        {
            throw new ArgumentException("Nothing of the network is trained: all blocks and the embedding are frozen. Freeze less.");
        }

        return new ParameterPlaces(trained.Views, trained.Length, trained.DecayedLength, frozen.Views, frozen.Length);
    }

    /// <summary>Gives a config that was read back, if a network can be made of it.</summary>
    /// <exception cref="InvalidDataException">None can; the message begins with <paramref name="problem"/>.</exception>
    public static ModelConfig Require(ModelConfig config, string problem)
    {
        try
        {
            config.Validate();
            _ = Place(config);
            return config;
        }
        catch (ArgumentException exception)
        {
            throw new InvalidDataException($"{problem}: {exception.Message}", exception);
        }
    }

    /// <summary>Fresh values. Each tensor has a seed of its own, made of <paramref name="seed"/> and its name.</summary>
    public static void Initialize(ModelConfig config, long seed, FlatParameters parameters)
    {
        var architecture = NetworkArchitecture.Of(config.Architecture);
        foreach (var view in parameters.Views.Concat(parameters.FrozenViews))
        {
            var values = parameters.ValuesOf(view.Name);
            var tensorSeed = Seeds.Derive(seed, $"init:{view.Name}");
            if (view.Name.EndsWith(LoraA, StringComparison.Ordinal))
            {
                // As PEFT does (Kaiming uniform with a = sqrt(5)); B stays 0.
                FillUniform(values, 1 / Math.Sqrt(view.Shape[1]), tensorSeed);
            }
            else if (view.Name == Score)
            {
                FillNormal(values, 0.02, tensorSeed);
            }
            else if (!view.Name.EndsWith(LoraB, StringComparison.Ordinal))
            {
                architecture.Initialize(config, view, values, tensorSeed);
            }
        }

        parameters.UploadValues();
        parameters.UploadFrozenValues();
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

    private static bool IsAdapted(NetworkArchitecture architecture, LoraOptions lora, TensorShape tensor)
        => tensor.Shape.Length == 2 && tensor.Name.EndsWith(".weight", StringComparison.Ordinal) && architecture.BlockOf(tensor.Name) is not null
            && tensor.Name.Split('.') is [.., var layer, _] && lora.Targets.Contains(layer);

    private static bool IsFrozen(TuningOptions? tuning, NetworkArchitecture architecture, string name)
    {
        if (tuning is null || name == Score)
        {
            return false;
        }

        return tuning.Lora is not null
            ? !(tuning.TrainedEmbedding && (name == architecture.Embedding || name == architecture.Head))
            : (tuning.FrozenEmbedding && architecture.IsEmbedding(name)) || architecture.BlockOf(name) < tuning.FrozenBlocks;
    }

    /// <summary>Tensors one after another, each on its boundary.</summary>
    private sealed class Buffer
    {
        private long _length;

        public List<ParameterView> Views { get; } = [];

        public int Length => (int)_length;

        public int DecayedLength { get; private set; }

        public void Add(TensorShape tensor)
        {
            var length = tensor.Shape.Aggregate(1L, (product, size) => product * size);
            if (_length + length > int.MaxValue - Alignment)
            {
                throw new ArgumentException($"The network has more than {int.MaxValue} parameters. Take fewer layers, less width or a smaller vocabulary.");
            }

            Views.Add(new ParameterView(tensor.Name, tensor.Shape, (int)_length, (int)length));
            _length += (length + Alignment - 1) / Alignment * Alignment;
            DecayedLength = tensor.Shape.Length >= 2 ? (int)_length : DecayedLength;
        }
    }
}

/// <summary>Where the tensors of a network lie.</summary>
/// <param name="Views">Trainable tensors.</param>
/// <param name="Length">Elements of their buffer.</param>
/// <param name="DecayedLength">Elements of the leading range that weight decay applies to.</param>
/// <param name="FrozenViews">Tensors that are not trained.</param>
/// <param name="FrozenLength">Elements of their buffer.</param>
internal sealed record ParameterPlaces(IReadOnlyList<ParameterView> Views, int Length, int DecayedLength, IReadOnlyList<ParameterView> FrozenViews, int FrozenLength);
