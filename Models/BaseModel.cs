using LlmPipeline.Models.Networks;
using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>Makes the network that a fine-tuning begins with out of a model directory.</summary>
public static class BaseModel
{
    /// <summary>Standard deviation of the noise of a new embedding, relative to that of the old ones in the same channel.</summary>
    private const double Noise = 0.1;

    /// <summary>
    /// Creates a network with the weights of a base. Further ids have the mean of the base's embeddings, and a little noise, as
    /// theirs (Hewitt 2021); what the base lacks (a classification head of other labels or another pooling, low-rank updates) is fresh. An adapter beside the
    /// base is merged into it.
    /// </summary>
    /// <param name="folder">The base's directory.</param>
    /// <param name="config">The base's sizes, with more ids, labels, another dropout or what is trained.</param>
    /// <param name="seed">Seed of what is fresh.</param>
    /// <param name="device">Where it computes.</param>
    /// <exception cref="InvalidDataException">A file of the base is missing or wrong.</exception>
    /// <exception cref="ArgumentException">The sizes are not the base's.</exception>
    public static LanguageModel Load(string folder, ModelConfig config, long seed, torch.Device device)
    {
        ArgumentNullException.ThrowIfNull(config);
        using var source = ModelDirectory.LoadNetwork(folder, torch.CPU);
        var model = LanguageModel.Create(config, seed, device);
        try
        {
            var sources = source.Parameters.Views.ToDictionary(v => v.Name);
            var sameHead = config.Labels is not null && source.Config.Labels is not null && config.Labels.SequenceEqual(source.Config.Labels) && config.Pooling == source.Config.Pooling;
            foreach (var view in model.Parameters.Views.Concat(model.Parameters.FrozenViews))
            {
                if (sources.TryGetValue(view.Name, out var known) && (view.Name != ParameterLayout.Score || sameHead))
                {
                    Copy(source.Parameters.ValuesOf(view.Name), known.Shape, model.Parameters.ValuesOf(view.Name), view, source.Config, config, seed);
                }
                else if (!IsFresh(view.Name))
                {
                    throw new ArgumentException($"'{folder}' has no '{view.Name}', which a network of these sizes has. A fine-tuned network has the sizes of its base.");
                }
            }

            model.Parameters.UploadValues();
            model.Parameters.UploadFrozenValues();
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    private static bool IsFresh(string name) => name == ParameterLayout.Score
        || name.EndsWith(ParameterLayout.LoraA, StringComparison.Ordinal) || name.EndsWith(ParameterLayout.LoraB, StringComparison.Ordinal);

    private static void Copy(ReadOnlySpan<float> source, IReadOnlyList<long> shape, Span<float> destination, ParameterView view, ModelConfig old, ModelConfig config, long seed)
    {
        if (shape.SequenceEqual(view.Shape))
        {
            source.CopyTo(destination);
            return;
        }

        // One row an id, in the embedding, the head and a bias of the head.
        var grows = shape[0] == old.VocabularySize && view.Shape[0] == config.VocabularySize && config.VocabularySize > old.VocabularySize && shape.Skip(1).SequenceEqual(view.Shape.Skip(1));
        if (!grows)
        {
            throw new ArgumentException($"'{view.Name}' has shape ({string.Join(", ", shape)}) in the base, not ({string.Join(", ", view.Shape)}). A fine-tuned network has the sizes of its base.");
        }

        source.CopyTo(destination);
        var channels = source.Length / old.VocabularySize;
        var added = destination[source.Length..];
        ParameterLayout.FillNormal(added, Noise, Seeds.Derive(seed, $"new-ids:{view.Name}"));
        for (var c = 0; c < channels; c++)
        {
            double sum = 0, squares = 0;
            for (var i = c; i < source.Length; i += channels)
            {
                sum += source[i];
                squares += (double)source[i] * source[i];
            }

            var mean = sum / old.VocabularySize;
            var deviation = Math.Sqrt(Math.Max(0, (squares / old.VocabularySize) - (mean * mean)));
            for (var i = c; i < added.Length; i += channels)
            {
                added[i] = (float)(mean + (deviation * added[i]));
            }
        }
    }
}
