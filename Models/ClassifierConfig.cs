using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace LlmPipeline.Models;

/// <summary>What transformers' <c>...ForSequenceClassification</c> adds to <c>config.json</c>: <c>id2label</c>, <c>label2id</c>; and what its head reads (as ModernBERT's <c>classifier_pooling</c>).</summary>
internal static class ClassifierConfig
{
    private const string Architectures = "architectures";
    private const string IdToLabel = "id2label";
    private const string LabelCount = "num_labels";
    private const string PoolingKey = "classifier_pooling";
    private const string Suffix = "ForSequenceClassification";
    private const string PooledSuffix = "PooledClassifier";

    /// <summary>Adds the labels of a classifier.</summary>
    public static void Write(JsonObject json, ModelConfig config)
    {
        if (config.Labels is not { } labels)
        {
            return;
        }

        var name = (string?)(json[Architectures] as JsonArray)?.FirstOrDefault() ?? config.Architecture;
        foreach (var head in new[] { "LMHeadModel", "ForCausalLM", "ForMaskedLM" })
        {
            name = name.EndsWith(head, StringComparison.Ordinal) ? name[..^head.Length] : name;
        }

        json[Architectures] = new JsonArray(name + Suffix);
        json[IdToLabel] = new JsonObject(labels.Select((label, id) => KeyValuePair.Create(id.ToString(CultureInfo.InvariantCulture), (JsonNode?)label)));
        json["label2id"] = new JsonObject(labels.Select((label, id) => KeyValuePair.Create(label, (JsonNode?)id)));
        json[LabelCount] = labels.Count;
        json["pad_token_id"] = config.EndOfTextId;
        if (config.Pooling != Pooling.Last)
        {
            // Who knows only classifiers that read the last id would compute another function.
            json[Architectures] = new JsonArray(name + PooledSuffix);
            json[PoolingKey] = Poolings.NameOf(config.Pooling);
        }
    }

    /// <summary>Adds the labels of a classifier, and what its head reads, to a config that was read.</summary>
    /// <exception cref="InvalidDataException">A key is wrong.</exception>
    public static ModelConfig Read(ConfigKeys keys, ModelConfig config)
    {
        if (Labels(keys) is not { } labels)
        {
            return config;
        }

        var pooling = keys.Text(PoolingKey, Poolings.NameOf(Pooling.Last));
        return config with { Labels = labels, Pooling = Poolings.Of(pooling) ?? throw keys.Wrong(PoolingKey, $"'{pooling}'; there is {string.Join(", ", Poolings.Names)}") };
    }

    /// <summary>The labels of a classifier; null of a language model. Unnamed ones are LABEL_0, LABEL_1, ..., as in transformers.</summary>
    /// <exception cref="InvalidDataException">They are not numbered from 0 on.</exception>
    public static IReadOnlyList<string>? Labels(ConfigKeys keys)
    {
        var isClassifier = keys.Has(Architectures) && keys.Root.GetProperty(Architectures) is { ValueKind: JsonValueKind.Array } names
            && names.EnumerateArray().Any(n => n.ValueKind == JsonValueKind.String && (n.GetString()!.EndsWith(Suffix, StringComparison.Ordinal) || n.GetString()!.EndsWith(PooledSuffix, StringComparison.Ordinal)));
        if (!isClassifier)
        {
            return null;
        }

        if (!keys.Has(IdToLabel))
        {
            var count = keys.Has(LabelCount) ? keys.Integer(LabelCount) : 2;
            return count is > 1 and <= 1 << 16 ? [.. Enumerable.Range(0, count).Select(id => $"LABEL_{id}")] : throw keys.Wrong(LabelCount, $"{count}; 2 to {1 << 16} classes can be told apart");
        }

        var found = keys.Root.GetProperty(IdToLabel);
        var labels = new List<string>();
        while (found.ValueKind == JsonValueKind.Object && found.TryGetProperty(labels.Count.ToString(CultureInfo.InvariantCulture), out var label) && label.ValueKind == JsonValueKind.String)
        {
            labels.Add(label.GetString()!);
        }

        return labels.Count > 0 && labels.Count == found.EnumerateObject().Count() ? labels
            : throw keys.Wrong(IdToLabel, "not an object of names, numbered from 0 on");
    }
}
