namespace LlmPipeline.Models.Networks;

/// <summary><c>model.safetensors</c> of a network.</summary>
internal static class NetworkWeights
{
    /// <summary>Writes the weights with the names that transformers has; a tied head is left out, as there. Low-rank updates are not among them.</summary>
    public static Task WriteAsync(Stream stream, LanguageModel model, CancellationToken cancellationToken)
    {
        var names = model.Parameters.Views.Concat(model.Parameters.FrozenViews).Select(v => v.Name).ToHashSet();
        SafetensorsEntry[] entries =
        [
            .. ParameterLayout.TensorsOf(model.Config).Select(t => new SafetensorsEntry(t.Name, t.Shape, names.Contains(t.Name)
                ? (offset, destination) => model.Parameters.ValuesOf(t.Name).Slice((int)offset, destination.Length).CopyTo(destination)
                : (_, destination) => destination.Clear())),
        ];
        return Safetensors.WriteAsync(stream, entries, new Dictionary<string, string> { ["format"] = "pt" }, cancellationToken);
    }

    /// <summary>
    /// Opens weights that any implementation wrote for the same config: with or without <see cref="NetworkArchitecture.Prefix"/> before the names,
    /// with or without the tied head, what the architecture ignores passed over.
    /// </summary>
    /// <exception cref="InvalidDataException">Tensors are missing, unknown or of another shape; the message names them.</exception>
    public static SafetensorsFile Open(string path, ModelConfig config)
    {
        var file = SafetensorsFile.Open(path);
        try
        {
            CheckNames(path, file, config);
            var architecture = NetworkArchitecture.Of(config.Architecture);
            if (config.Tied)
            {
                CheckTied(path, file, architecture.Head, NameIn(file, architecture, architecture.Embedding));
            }

            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Fills a model from a file that <see cref="Open"/> has checked against its config.</summary>
    public static void Read(SafetensorsFile file, LanguageModel model)
    {
        var architecture = NetworkArchitecture.Of(model.Config.Architecture);
        foreach (var (name, _, _) in ParameterLayout.TensorsOf(model.Config).Where(t => model.Config.Bias || !t.IsBias))
        {
            file.Read(NameIn(file, architecture, name), model.Parameters.ValuesOf(name));
        }

        model.Parameters.UploadValues();
        model.Parameters.UploadFrozenValues();
    }

    private static string NameIn(SafetensorsFile file, NetworkArchitecture architecture, string name)
        => !file.Tensors.ContainsKey(architecture.Embedding) && name.StartsWith(architecture.Prefix, StringComparison.Ordinal) ? name[architecture.Prefix.Length..] : name;

    private static void CheckNames(string path, SafetensorsFile file, ModelConfig config)
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
            throw new InvalidDataException($"'{path}' does not fit its {ModelDirectory.ConfigFile}: {string.Join("; ", problems.Take(5))}{more}.");
        }
    }

    private static bool IsZero(SafetensorsFile file, string key, long length)
    {
        var values = new float[length];
        file.Read(key, values);
        return !values.AsSpan().ContainsAnyExcept(0f, -0f);
    }

    // Some writers store the tied head as well; one that differs belongs to a network that this is not.
    private static void CheckTied(string path, SafetensorsFile file, string headName, string embedding)
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
            throw new InvalidDataException($"'{path}': '{headName}' differs from '{embedding}'; the head of this network is its embedding.");
        }
    }
}
