using LlmPipeline.Models;
using LlmPipeline.Text;

namespace LlmPipeline.Evaluator.Measuring;

/// <summary>Pieces of held-out text, evenly spread over a split: a prompt, and how the text goes on.</summary>
internal sealed class HeldOutTexts
{
    private const int Batch = 16;

    private readonly int[][] _prompts;
    private readonly int[][] _references;
    private readonly int _tokens;

    private HeldOutTexts(int[][] prompts, int[][] references, int tokens) => (_prompts, _references, _tokens) = (prompts, references, tokens);

    public int Count => _prompts.Length;

    /// <summary>Takes pieces of a split.</summary>
    /// <param name="split">The tokens.</param>
    /// <param name="samples">Most pieces; fewer where the split is short, so that they do not overlap.</param>
    /// <param name="tokens">Tokens of a prompt, and of a continuation.</param>
    public static HeldOutTexts Take(TokenSplit split, int samples, int tokens)
    {
        var count = tokens > 0 ? (int)Math.Min(samples, split.TokenCount / (2 * tokens)) : 0;
        var prompts = new int[count][];
        var references = new int[count][];
        for (var i = 0; i < count; i++)
        {
            var position = (split.TokenCount - (2L * tokens)) * i / Math.Max(1, count - 1);
            split.Read(position, prompts[i] = new int[tokens]);
            split.Read(position + tokens, references[i] = new int[tokens]);
        }

        return new HeldOutTexts(prompts, references, tokens);
    }

    /// <summary>Corpus BLEU (13a) of a model's greedy continuations, 0 to 100.</summary>
    public double BleuOf(ITokenModel model, ITokenizer tokenizer, Action<double>? progress, CancellationToken cancellationToken)
    {
        var continuations = new List<int[]>(Count);
        foreach (var prompts in _prompts.Chunk(Batch))
        {
            continuations.AddRange(Generation.GenerateGreedy(model, prompts, _tokens, cancellationToken));
            progress?.Invoke((double)continuations.Count / Count);
        }

        return Bleu(continuations, tokenizer);
    }

    private double Bleu(List<int[]> continuations, ITokenizer tokenizer) =>
        Text.Bleu.Corpus([.. continuations.Select(ids => tokenizer.Decode(ids))], [.. _references.Select(ids => tokenizer.Decode(ids))]).Score;
}
