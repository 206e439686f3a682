using System.Text.Json;
using System.Text.Json.Nodes;
using LlmPipeline.Models.Networks;
using LlmPipeline.Storage;

namespace LlmPipeline.Models;

/// <summary>
/// The low-rank updates of a network as PEFT writes them: <c>adapter_config.json</c>, <c>adapter_model.safetensors</c>. They lie
/// beside the weights that they update, which are not merged. What is trained besides (a classification head, the embedding with
/// new ids) is in <c>modules_to_save</c>.
/// </summary>
internal static class AdapterFiles
{
    /// <summary>Says what is adapted.</summary>
    public const string ConfigFile = "adapter_config.json";

    /// <summary>A and B of each layer, and the modules that are trained besides.</summary>
    public const string WeightsFile = "adapter_model.safetensors";

    private const string Prefix = "base_model.model.";
    private const string Modules = "modules_to_save";

    /// <summary>Whether a folder has an adapter.</summary>
    public static bool Exist(string folder) => File.Exists(Path.Combine(folder, ConfigFile));

    /// <summary>Whether a module of a network was trained besides the updates of the adapter in a folder.</summary>
    /// <param name="folder">A folder with an adapter.</param>
    /// <param name="parameter">Name of a parameter of the module.</param>
    public static bool HasModule(string folder, string parameter)
    {
        var root = ConfigKeys.Read(Path.Combine(folder, ConfigFile)).Root;
        return root.TryGetProperty(Modules, out var modules) && modules.ValueKind == JsonValueKind.Array
            && modules.EnumerateArray().Any(m => m.ValueKind == JsonValueKind.String && m.GetString() == ModuleOf(parameter));
    }

    /// <summary>Writes the adapter of a network with low-rank updates.</summary>
    /// <param name="directory">Where to.</param>
    /// <param name="model">The network.</param>
    /// <param name="values">Its trainable parameters; null for the present ones.</param>
    /// <param name="cancellationToken">Ends the writing.</param>
    public static async Task WriteAsync(DirectoryWriter directory, LanguageModel model, float[]? values, CancellationToken cancellationToken)
    {
        SafetensorsEntry[] entries =
        [
            .. model.Parameters.Views.Select(v => new SafetensorsEntry(Prefix + v.Name, v.Shape,
                (offset, destination) => (values ?? model.Parameters.Values).Slice(v.Offset + (int)offset, destination.Length).CopyTo(destination))),
        ];
        await directory.WriteTextAsync(ConfigFile, Config(model), cancellationToken).ConfigureAwait(false);
        await directory.WriteAsync(WeightsFile, (stream, token) => Safetensors.WriteAsync(stream, entries, new Dictionary<string, string> { ["format"] = "pt" }, token), cancellationToken)
            .ConfigureAwait(false);
    }

    /// <summary>Fills what is trained of a network with low-rank updates.</summary>
    /// <exception cref="InvalidDataException">A tensor is missing or of another shape.</exception>
    public static void Read(string folder, LanguageModel model)
    {
        using var file = SafetensorsFile.Open(Path.Combine(folder, WeightsFile));
        foreach (var view in model.Parameters.Views)
        {
            Require(folder, file, Prefix + view.Name, view.Shape);
            file.Read(Prefix + view.Name, model.Parameters.Values.Slice(view.Offset, view.Length));
        }

        model.Parameters.UploadValues();
    }

    /// <summary>Adds the updates in a folder to the weights of a plain network: W + (alpha / rank) A B, and replaces the modules that were trained besides.</summary>
    /// <exception cref="InvalidDataException">The adapter is of another network, or of a kind that is not supported.</exception>
    public static void Merge(string folder, LanguageModel model)
    {
        var scale = Scale(folder);
        var architecture = NetworkArchitecture.Of(model.Config.Architecture);
        using var file = SafetensorsFile.Open(Path.Combine(folder, WeightsFile));
        var shapes = ParameterLayout.TensorsOf(model.Config).ToDictionary(t => t.Name, t => t.Shape);
        foreach (var (key, tensor) in file.Tensors)
        {
            var name = key.StartsWith(Prefix, StringComparison.Ordinal) ? key[Prefix.Length..] : key;
            if (name.EndsWith(ParameterLayout.LoraB, StringComparison.Ordinal))
            {
                continue;
            }

            var isUpdate = name.EndsWith(ParameterLayout.LoraA, StringComparison.Ordinal);
            var target = isUpdate ? name[..^ParameterLayout.LoraA.Length] + ".weight" : name;
            if (!shapes.TryGetValue(target, out var shape))
            {
                throw new InvalidDataException($"'{Path.Combine(folder, WeightsFile)}': '{key}' belongs to no tensor of this network.");
            }

            if (!isUpdate)
            {
                Require(folder, file, key, shape);
                file.Read(key, model.Parameters.ValuesOf(target));
                continue;
            }

            var rank = (int)tensor.Shape[0];
            var (input, output) = architecture.InputFirst ? ((int)shape[0], (int)shape[1]) : ((int)shape[1], (int)shape[0]);
            var other = key[..^ParameterLayout.LoraA.Length] + ParameterLayout.LoraB;
            Require(folder, file, key, [rank, input]);
            Require(folder, file, other, [output, rank]);
            var (a, b) = (new float[rank * input], new float[output * rank]);
            file.Read(key, a);
            file.Read(other, b);
            Add(model.Parameters.ValuesOf(target), a, b, scale, rank, input, output, architecture.InputFirst);
        }

        model.Parameters.UploadValues();
        model.Parameters.UploadFrozenValues();
    }

    private static void Add(Span<float> weight, float[] a_RC, float[] b_CR, double scale, int rank, int input, int output, bool inputFirst)
    {
        for (var i = 0; i < input; i++)
        {
            for (var o = 0; o < output; o++)
            {
                var sum = 0.0;
                for (var r = 0; r < rank; r++)
                {
                    sum += (double)a_RC[(r * input) + i] * b_CR[(o * rank) + r];
                }

                weight[inputFirst ? (i * output) + o : (o * input) + i] += (float)(scale * sum);
            }
        }
    }

    private static string Config(LanguageModel model)
    {
        var lora = model.Config.Tuning!.Lora!;
        var saved = model.Parameters.Views.Select(v => v.Name)
            .Where(n => !n.EndsWith(ParameterLayout.LoraA, StringComparison.Ordinal) && !n.EndsWith(ParameterLayout.LoraB, StringComparison.Ordinal))
            .Select(ModuleOf);
        return new JsonObject
        {
            ["peft_type"] = "LORA",
            ["task_type"] = model.Config.Classes > 0 ? "SEQ_CLS" : "CAUSAL_LM",
            ["base_model_name_or_path"] = null,
            ["r"] = lora.Rank,
            ["lora_alpha"] = lora.Alpha,
            ["lora_dropout"] = lora.Dropout,
            ["target_modules"] = new JsonArray([.. lora.Targets.Select(t => JsonValue.Create(t))]),
            [Modules] = new JsonArray([.. saved.Select(n => JsonValue.Create(n))]),
            ["fan_in_fan_out"] = NetworkArchitecture.Of(model.Config.Architecture).InputFirst,
            ["bias"] = "none",
            ["use_rslora"] = false,
            ["use_dora"] = false,
            ["inference_mode"] = true,
        }.ToJsonString(ConfigKeys.Indented) + "\n";
    }

    private static string ModuleOf(string parameter) => parameter.Split('.')[^2];

    private static double Scale(string folder)
    {
        var keys = ConfigKeys.Read(Path.Combine(folder, ConfigFile));
        keys.Require("peft_type", "LORA");
        keys.RequireBool("use_rslora", expected: false);
        keys.RequireBool("use_dora", expected: false);
        keys.Require("bias", "none");
        foreach (var pattern in new[] { "rank_pattern", "alpha_pattern" })
        {
            if (keys.Has(pattern) && keys.Root.GetProperty(pattern).ValueKind != JsonValueKind.Object)
            {
                throw keys.Wrong(pattern, "not an object");
            }
            else if (keys.Has(pattern) && keys.Root.GetProperty(pattern).EnumerateObject().Any())
            {
                throw keys.Wrong(pattern, "set; one rank and alpha for all layers can be computed");
            }
        }

        var rank = keys.Integer("r");
        return rank > 0 ? keys.Real("lora_alpha", 8) / rank : throw keys.Wrong("r", $"{rank}; at least 1 is needed");
    }

    private static void Require(string folder, SafetensorsFile file, string key, IReadOnlyList<long> shape)
    {
        if (!file.Tensors.TryGetValue(key, out var tensor) || !tensor.Shape.SequenceEqual(shape))
        {
            throw new InvalidDataException($"'{Path.Combine(folder, WeightsFile)}' has no '{key}' of shape ({string.Join(", ", shape)}).");
        }
    }
}
