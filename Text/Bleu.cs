using System.Text;
using System.Text.RegularExpressions;

namespace LlmPipeline.Text;

/// <summary>How BLEU cuts text into words.</summary>
public enum BleuTokenizer
{
    /// <summary>mteval-v13a, sacreBLEU's default.</summary>
    Mteval13a,

    /// <summary>At blanks.</summary>
    None,

    /// <summary>Every character.</summary>
    Character,

    /// <summary>mteval-v14's international tokenization: punctuation and symbols of all scripts.</summary>
    International,
}

/// <summary>What stands for a precision of 0.</summary>
public enum BleuSmoothing
{
    /// <summary>1 / 2^k of a match for the k-th order without one (mteval-v13a, sacreBLEU's default).</summary>
    Exponential,

    /// <summary>A given number of matches.</summary>
    Floor,
}

/// <summary>A BLEU score and what it is made of.</summary>
/// <param name="Score">0 to 100.</param>
/// <param name="Precisions">Of orders 1 to 4, 0 to 100.</param>
/// <param name="BrevityPenalty">0 to 1.</param>
/// <param name="HypothesisLength">Words.</param>
/// <param name="ReferenceLength">Words, of the reference closest in length for each hypothesis.</param>
public sealed record BleuScore(double Score, IReadOnlyList<double> Precisions, double BrevityPenalty, long HypothesisLength, long ReferenceLength);

/// <summary>Corpus BLEU (Papineni et al. 2002) as sacreBLEU computes it (Post 2018): order 4, brevity penalty, no effective order.</summary>
public static partial class Bleu
{
    private const int Orders = 4;

    /// <summary>Corpus BLEU of hypotheses against one reference each.</summary>
    public static BleuScore Corpus(IReadOnlyList<string> hypotheses, IReadOnlyList<string> references, BleuTokenizer tokenizer = BleuTokenizer.Mteval13a, bool lowercase = false) =>
        Corpus(hypotheses, [references], tokenizer, lowercase);

    /// <summary>Corpus BLEU of hypotheses against streams of references.</summary>
    /// <param name="hypotheses">System outputs.</param>
    /// <param name="referenceStreams">Each has one reference for each hypothesis.</param>
    /// <param name="tokenizer">How both are cut into words.</param>
    /// <param name="lowercase">Compares lower-cased.</param>
    /// <param name="smoothing">What stands for a precision of 0.</param>
    /// <param name="floor">Matches that <see cref="BleuSmoothing.Floor"/> gives an order without one.</param>
    /// <exception cref="ArgumentException">A stream has another number of segments than there are hypotheses, or there is none.</exception>
    public static BleuScore Corpus(
        IReadOnlyList<string> hypotheses, IReadOnlyList<IReadOnlyList<string>> referenceStreams, BleuTokenizer tokenizer = BleuTokenizer.Mteval13a,
        bool lowercase = false, BleuSmoothing smoothing = BleuSmoothing.Exponential, double floor = 0)
    {
        ArgumentNullException.ThrowIfNull(hypotheses);
        ArgumentNullException.ThrowIfNull(referenceStreams);
        if (referenceStreams.Count == 0 || referenceStreams.Any(s => s.Count != hypotheses.Count))
        {
            throw new ArgumentException($"There are {hypotheses.Count} hypotheses and references for {string.Join(", ", referenceStreams.Select(s => s.Count))}; each needs its references.", nameof(referenceStreams));
        }

        var correct = new long[Orders];
        var total = new long[Orders];
        long hypothesisLength = 0, referenceLength = 0;
        for (var i = 0; i < hypotheses.Count; i++)
        {
            var words = Words(hypotheses[i], tokenizer, lowercase);
            var references = referenceStreams.Select(s => Words(s[i], tokenizer, lowercase)).ToArray();
            hypothesisLength += words.Length;
            referenceLength += references.Select(r => r.Length).OrderBy(l => Math.Abs(l - words.Length)).ThenBy(l => l).First();
            Count(words, references, correct, total);
        }

        return Score(correct, total, hypothesisLength, referenceLength, smoothing, floor);
    }

    private static void Count(string[] words, string[][] references, long[] correct, long[] total)
    {
        for (var order = 1; order <= Orders; order++)
        {
            var most = new Dictionary<string, int>(StringComparer.Ordinal);
            foreach (var reference in references)
            {
                foreach (var (ngram, count) in Ngrams(reference, order))
                {
                    most[ngram] = Math.Max(count, most.GetValueOrDefault(ngram));
                }
            }

            foreach (var (ngram, count) in Ngrams(words, order))
            {
                correct[order - 1] += Math.Min(count, most.GetValueOrDefault(ngram));
                total[order - 1] += count;
            }
        }
    }

    private static Dictionary<string, int> Ngrams(string[] words, int order)
    {
        var ngrams = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var i = 0; i + order <= words.Length; i++)
        {
            var ngram = string.Join('\n', words, i, order);
            ngrams[ngram] = ngrams.GetValueOrDefault(ngram) + 1;
        }

        return ngrams;
    }

    private static BleuScore Score(long[] correct, long[] total, long hypothesisLength, long referenceLength, BleuSmoothing smoothing, double floor)
    {
        var precisions = new double[Orders];
        if (correct.Any(c => c > 0))
        {
            var smooth = 1.0;
            for (var n = 0; n < Orders && total[n] > 0; n++)
            {
                precisions[n] = 100.0 * (correct[n] > 0 ? correct[n] : smoothing == BleuSmoothing.Floor ? floor : 1 / (smooth *= 2)) / total[n];
            }
        }

        var brevity = hypothesisLength >= referenceLength ? 1 : hypothesisLength > 0 ? Math.Exp(1 - ((double)referenceLength / hypothesisLength)) : 0;
        var score = precisions.All(p => p > 0) ? brevity * Math.Exp(precisions.Average(Math.Log)) : 0;
        return new BleuScore(score, precisions, brevity, hypothesisLength, referenceLength);
    }

    private static string[] Words(string text, BleuTokenizer tokenizer, bool lowercase)
    {
        text = (lowercase ? text.ToLowerInvariant() : text).TrimEnd();
        text = tokenizer switch
        {
            BleuTokenizer.Mteval13a => Tokenize13a(text),
            BleuTokenizer.Character => Spaced(text),
            BleuTokenizer.International => TokenizeInternational(text),
            _ => text,
        };
        return text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
    }

    private static string Spaced(string text)
    {
        var spaced = new StringBuilder(text.Length * 2);
        foreach (var rune in text.EnumerateRunes())
        {
            spaced.Append(rune.ToString()).Append(' ');
        }

        return spaced.ToString();
    }

    private static string Tokenize13a(string text)
    {
        text = text.Replace("<skipped>", "", StringComparison.Ordinal).Replace("-\n", "", StringComparison.Ordinal).Replace('\n', ' ')
            .Replace("&quot;", "\"", StringComparison.Ordinal).Replace("&amp;", "&", StringComparison.Ordinal)
            .Replace("&lt;", "<", StringComparison.Ordinal).Replace("&gt;", ">", StringComparison.Ordinal);
        text = AsciiPunctuation().Replace($" {text} ", " $1 ");
        text = PointAfterNonDigit().Replace(text, "$1 $2 ");
        text = PointBeforeNonDigit().Replace(text, " $1 $2");
        return DashAfterDigit().Replace(text, "$1 $2 ");
    }

    private static string TokenizeInternational(string text)
    {
        text = PunctuationAfterNonNumber().Replace(text, "$1 $2 ");
        text = PunctuationBeforeNonNumber().Replace(text, " $1 $2");
        return Symbol().Replace(text, " $1 ");
    }

    [GeneratedRegex(@"([{-~\[-` -&(-+:-@/])")]
    private static partial Regex AsciiPunctuation();

    [GeneratedRegex("([^0-9])([.,])")]
    private static partial Regex PointAfterNonDigit();

    [GeneratedRegex("([.,])([^0-9])")]
    private static partial Regex PointBeforeNonDigit();

    [GeneratedRegex("([0-9])(-)")]
    private static partial Regex DashAfterDigit();

    [GeneratedRegex(@"(\P{N})(\p{P})")]
    private static partial Regex PunctuationAfterNonNumber();

    [GeneratedRegex(@"(\p{P})(\P{N})")]
    private static partial Regex PunctuationBeforeNonNumber();

    [GeneratedRegex(@"(\p{S})")]
    private static partial Regex Symbol();
}
