namespace LlmPipeline.Models.Networks;

/// <summary>The weights of a network in files.</summary>
internal static class NetworkWeights
{
    /// <summary>The tensors to write, with the names that transformers has; a tied head is left out, as there. Low-rank updates are not among them.</summary>
    public static IReadOnlyList<SafetensorsEntry> Entries(LanguageModel model, float[]? values = null)
    {
        var names = model.Parameters.Views.Concat(model.Parameters.FrozenViews).Select(v => v.Name).ToHashSet();
        return
        [
            .. ParameterLayout.TensorsOf(model.Config).Select(t => new SafetensorsEntry(t.Name, t.Shape, names.Contains(t.Name)
                ? (offset, destination) => model.Parameters.ValuesOf(t.Name, values).Slice((int)offset, destination.Length).CopyTo(destination)
                : (_, destination) => destination.Clear())),
        ];
    }

    /// <summary>
    /// Opens weights that any implementation wrote for the same config: with or without <see cref="NetworkArchitecture.Prefix"/> before the names,
    /// with or without the tied head, what the architecture ignores passed over.
    /// </summary>
    /// <exception cref="InvalidDataException">Files or tensors are missing, unknown or of another shape; the message names them.</exception>
    public static WeightFiles Open(string folder, ModelConfig config)
    {
        var file = WeightFiles.Open(folder);
        try
        {
            CheckNames(file, config);
            var architecture = NetworkArchitecture.Of(config.Architecture);
            if (config.Tied)
            {
                CheckTied(file, architecture.Head, NameIn(file, architecture, architecture.Embedding));
            }

            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Number of elements of the network that is stored in a folder; what is there for other readers only does not count.</summary>
    public static long CountParameters(string folder, ModelConfig config)
    {
        using var file = WeightFiles.Open(folder);
        var architecture = NetworkArchitecture.Of(config.Architecture);
        return file.Tensors
            .Where(t => (config.Bias || !t.Key.EndsWith(".bias", StringComparison.Ordinal)) && !(config.Tied && t.Key == architecture.Head) && !architecture.IsIgnored(t.Key))
            .Sum(t => t.Value.Shape.Aggregate(1L, (product, size) => product * size));
    }

    /// <summary>Fills a model from files that <see cref="Open"/> has checked against its config.</summary>
    public static void Read(WeightFiles file, LanguageModel model)
    {
        var architecture = NetworkArchitecture.Of(model.Config.Architecture);
        foreach (var (name, _, _) in ParameterLayout.TensorsOf(model.Config).Where(t => model.Config.Bias || !t.IsBias))
        {
            file.Read(NameIn(file, architecture, name), model.Parameters.ValuesOf(name));
        }

        model.Parameters.UploadValues();
        model.Parameters.UploadFrozenValues();
    }

    private static string NameIn(WeightFiles file, NetworkArchitecture architecture, string name)
        => !file.Tensors.ContainsKey(architecture.Embedding) && name.StartsWith(architecture.Prefix, StringComparison.Ordinal) ? name[architecture.Prefix.Length..] : name;

    private static void CheckNames(WeightFiles file, ModelConfig config)
    {
        var problems = new List<string>();
        var architecture = NetworkArchitecture.Of(config.Architecture);
        var known = new HashSet<string>(StringComparer.Ordinal) { architecture.Head };
        foreach (var (name, shape, isBias) in ParameterLayout.TensorsOf(config))
        {
            var key = NameIn(file, architecture, name);
            known.Add(key);
            if (!file.Tensors.TryGetValue(key, out var tensor))
            {
                if (config.Bias || !isBias)
                {
                    problems.Add($"'{key}' is missing");
                }
            }
            else if (!tensor.Shape.SequenceEqual(shape))
            {
                problems.Add($"'{key}' has shape ({string.Join(", ", tensor.Shape)}) instead of ({string.Join(", ", shape)})");
            }
            else if (tensor.DataType is not ("F32" or "F16" or "BF16" or "F64"))
            {
                problems.Add($"'{key}' is of type {tensor.DataType} instead of F32, F16, BF16 or F64");
            }
            else if (isBias && !config.Bias && !IsZero(file, key, shape[0]))
            {
                problems.Add($"'{key}' is not 0, though {ModelDirectory.ConfigFile} says \"bias\": false");
            }
        }

        problems.AddRange(file.Tensors.Keys
            .Where(key => !known.Contains(key) && !architecture.IsIgnored(key))
            .Select(key => $"'{key}' is not a tensor of this network"));
        if (problems.Count > 0)
        {
            var more = problems.Count > 5 ? $"; and {problems.Count - 5} more" : "";
            throw new InvalidDataException($"'{file.Path}' does not fit its {ModelDirectory.ConfigFile}: {string.Join("; ", problems.Take(5))}{more}.");
        }
    }

    private static bool IsZero(WeightFiles file, string key, long length)
    {
        var values = new float[length];
        file.Read(key, values);
        return !values.AsSpan().ContainsAnyExcept(0f, -0f);
    }

    // Some writers store the tied head as well; one that differs belongs to a network that this is not.
    private static void CheckTied(WeightFiles file, string headName, string embedding)
    {
        if (!file.Tensors.TryGetValue(headName, out var head))
        {
            return;
        }

        var shape = file.Tensors[embedding].Shape;
        var same = head.Shape.SequenceEqual(shape);
        if (same)
        {
            var (a, b) = (new float[shape[0] * shape[1]], new float[shape[0] * shape[1]]);
            file.Read(embedding, a);
            file.Read(headName, b);
            same = a.AsSpan().SequenceEqual(b);
        }

        if (!same)
        {
            throw new InvalidDataException($"'{file.Path}': '{headName}' differs from '{embedding}'; the head of this network is its embedding.");
        }
    }
}
