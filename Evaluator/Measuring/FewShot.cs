using LlmPipeline.Evaluations.V1;
using LlmPipeline.Models;
using LlmPipeline.Text;

namespace LlmPipeline.Evaluator.Measuring;

/// <summary>Classification by prompts: examples, then the text that is asked for; each label's text is scored as the continuation.</summary>
internal sealed class FewShot
{
    public const string DefaultTemplate = "{text}\nlabel: {label}\n";
    private const string Text = "{text}";
    private const string Label = "{label}";

    private readonly ITokenizer _tokenizer;
    private readonly int[][] _labels;
    private readonly string _beforeText;
    private readonly string _beforeLabel;
    private readonly string _examples;

    private FewShot(FewShotSpec spec, ITokenizer tokenizer, TokenDataset dataset, TokenSplit train)
    {
        _tokenizer = tokenizer;
        IReadOnlyList<string> names = spec.Labels.Count > 0 ? spec.Labels : dataset.Properties.Labels!;
        if (names.Count != dataset.Properties.Labels!.Count)
        {
            throw new EvaluationException(ServiceDefaults.ErrorReasons.InvalidSpec,
                $"few_shot.labels has {names.Count} entries; '{dataset.Name}' has the {dataset.Properties.Labels.Count} labels {string.Join(", ", dataset.Properties.Labels.Take(10))}. Give one for each, in this order.");
        }

        var at = spec.Template.IndexOf(Label, StringComparison.Ordinal);
        var head = spec.Template[..at].TrimEnd(' ');
        var blanks = spec.Template[head.Length..at];
        _labels = [.. names.Select(n => _tokenizer.Encode(blanks + n))];
        var text = head.IndexOf(Text, StringComparison.Ordinal);
        (_beforeText, _beforeLabel) = (head[..text], head[(text + Text.Length)..]);
        var order = Seeds.Derive(spec.Seed, "few-shot");
        _examples = string.Concat(Enumerable.Range(0, (int)Math.Min(spec.Shots, train.DocumentCount)).Select(i =>
        {
            var (ids, label) = Classification.Document(dataset, train, Permutation.Of(i, train.DocumentCount, order));
            return _beforeText + _tokenizer.Decode(ids) + _beforeLabel + blanks + names[label] + spec.Template[(at + Label.Length)..];
        }));
    }

    /// <summary>Why a template cannot be used; null when it can.</summary>
    public static string? Problem(string template)
    {
        int text = template.IndexOf(Text, StringComparison.Ordinal), label = template.IndexOf(Label, StringComparison.Ordinal);
        return text >= 0 && label > text && template.LastIndexOf(Text, StringComparison.Ordinal) == text && template.LastIndexOf(Label, StringComparison.Ordinal) == label ? null
            : "has to have {text} and, behind it, {label}, once each";
    }

    /// <summary>Classifies documents of a split.</summary>
    /// <param name="spec">Template, labels and examples.</param>
    /// <param name="model">A language model.</param>
    /// <param name="tokenizer">The model's; has all ids of the dataset's, and may have more.</param>
    /// <param name="dataset">A dataset with labels.</param>
    /// <param name="split">The documents.</param>
    /// <param name="progress">Called with the share done.</param>
    /// <param name="cancellationToken">Ends the measurement.</param>
    public static Classification Classify(
        FewShotSpec spec, ITokenModel model, ITokenizer tokenizer, TokenDataset dataset, TokenSplit split, Action<double>? progress, CancellationToken cancellationToken)
    {
        var prompts = new FewShot(spec, tokenizer, dataset, dataset.Split("train"));
        var classification = new Classification(dataset.Properties.Labels!);
        var count = spec.Documents == 0 ? split.DocumentCount : Math.Min(spec.Documents, split.DocumentCount);
        var scores = new double[prompts._labels.Length];
        for (long i = 0; i < count; i++)
        {
            var (ids, label) = Classification.Document(dataset, split, i * split.DocumentCount / count);
            var prompt = prompts._tokenizer.Encode(prompts._examples + prompts._beforeText + prompts._tokenizer.Decode(ids) + prompts._beforeLabel);
            for (var k = 0; k < scores.Length; k++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                scores[k] = Score(model, prompt, prompts._labels[k]);
            }

            classification.Add(label, Normalized(scores));
            progress?.Invoke((i + 1.0) / count);
        }

        return classification;
    }

    /// <summary>Summed log-probability of ids behind a prompt, in nats. A prompt that does not fit loses its begin.</summary>
    public static double Score(ITokenModel model, ReadOnlySpan<int> prompt, ReadOnlySpan<int> continuation)
    {
        int[] ids = [model.BeginOfTextId, .. prompt, .. continuation];
        var room = model is LanguageModel ? model.Context : model.MaxPositions ?? int.MaxValue;
        if (continuation.Length >= room)
        {
            throw new EvaluationException(ServiceDefaults.ErrorReasons.InvalidSpec, $"A label has {continuation.Length} tokens; the model's context of {room} has no room for a prompt before it. Write the labels shorter in few_shot.labels.");
        }

        ids = ids[Math.Max(0, ids.Length - 1 - room)..];
        if (model is LanguageModel network)
        {
            int[] targets = [.. Enumerable.Repeat(LanguageModel.IgnoredTarget, ids.Length - 1 - continuation.Length), .. continuation];
            return -network.Evaluate(ids.AsSpan(0, ids.Length - 1), targets, 1).LossSum;
        }

        using var state = model.BeginGeneration(1);
        var logits = new float[model.VocabularySize];
        var sum = 0.0;
        var next = ids[..(ids.Length - continuation.Length)];
        foreach (var id in continuation)
        {
            state.Append(next, logits);
            var highest = (double)logits.Max();
            sum += logits[id] - highest - Math.Log(logits.Sum(l => Math.Exp(l - highest)));
            next = [id];
        }

        return sum;
    }

    // Log-probabilities among the labels.
    private static double[] Normalized(double[] scores)
    {
        var highest = scores.Max();
        var log = double.IsNegativeInfinity(highest) ? 0 : highest + Math.Log(scores.Sum(s => Math.Exp(s - highest)));
        return [.. scores.Select(s => s - log)];
    }
}
