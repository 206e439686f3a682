using System.Text;
using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Reports;

/// <summary>
/// Tells script and language from the first <see cref="SampleBytes"/> bytes of a document. The script is the one of most letters. A
/// script in which one language is written for the most part stands for it; in Latin, Cyrillic, Arabic and Devanagari, languages are
/// told by their frequent words. Others, and texts too short to tell, are <c>und</c>.
/// </summary>
public static class LanguageDetector
{
    /// <summary>What is looked at of a document.</summary>
    public const int SampleBytes = 4096;

    /// <summary>Language or script that is not known.</summary>
    public const string Undetermined = "und";

    // Share of a text's words that must be frequent words of its language, a word of several languages counted in parts.
    private const double LeastShare = 0.06;

    /// <summary>Languages that are told apart by words; further ones by their script.</summary>
    public static IReadOnlyList<string> WordLanguages => StopWords.Languages;

    /// <summary>The language of a document.</summary>
    /// <param name="utf8">Valid UTF-8.</param>
    public static DetectedLanguage Detect(ReadOnlySpan<byte> utf8)
    {
        utf8 = utf8.Length <= SampleBytes ? utf8 : utf8[..Utf8Text.WholeCharacters(utf8[..SampleBytes])];
        Span<int> letters = stackalloc int[Scripts.Count];
        letters.Clear();
        var latin = 0;
        for (var rest = utf8; !rest.IsEmpty;)
        {
            if (rest[0] < 128)
            {
                latin += char.IsAsciiLetter((char)rest[0]) ? 1 : 0;
                rest = rest[1..];
                continue;
            }

            Rune.DecodeFromUtf8(rest, out var rune, out var length);
            rest = rest[length..];
            if (Scripts.RangeOf(rune.Value) is >= 0 and var range && Rune.IsLetter(rune))
            {
                letters[range]++;
            }
        }

        letters[Scripts.RangeOf('a')] += latin;
        var byScript = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var range = 0; range < letters.Length; range++)
        {
            if (letters[range] > 0)
            {
                byScript[Scripts.ScriptOf(range)] = byScript.GetValueOrDefault(Scripts.ScriptOf(range)) + letters[range];
            }
        }

        // Japanese writes Chinese characters too: kana among them tell it.
        var kana = byScript.GetValueOrDefault("Hira") + byScript.GetValueOrDefault("Kana");
        var han = byScript.GetValueOrDefault("Hani");
        if (kana > 0 && kana * 20 >= han)
        {
            byScript["Jpan"] = kana + han;
            byScript.Remove("Hani");
        }

        if (byScript.Count == 0)
        {
            return new DetectedLanguage(Undetermined, Undetermined);
        }

        var script = byScript.MaxBy(s => (s.Value, s.Key), Comparer<(int, string)>.Create((a, b) => a.Item1 != b.Item1 ? a.Item1.CompareTo(b.Item1) : string.CompareOrdinal(b.Item2, a.Item2))).Key;
        return new DetectedLanguage(script == "Jpan" ? "ja" : LanguageOfScript(script) ?? ByWords(utf8), script);
    }

    private static string? LanguageOfScript(string script)
    {
        for (var range = 0; range < Scripts.Count; range++)
        {
            if (Scripts.ScriptOf(range) == script)
            {
                return Scripts.LanguageOf(range);
            }
        }

        return null;
    }

    private static string ByWords(ReadOnlySpan<byte> utf8)
    {
        var scores = new double[StopWords.Languages.Count];
        var words = new WordHashes(utf8);
        var count = 0;
        while (words.MoveNext())
        {
            count++;
            if (StopWords.LanguagesOf(words.Current) is { } languages)
            {
                foreach (var language in languages)
                {
                    scores[language] += 1.0 / languages.Count;
                }
            }
        }

        var best = scores.Max();
        return best > 1 && best >= LeastShare * count ? StopWords.Languages[Array.IndexOf(scores, best)] : Undetermined;
    }
}

/// <summary>Language and script of a document.</summary>
/// <param name="Language">ISO 639 code, or <c>und</c>.</param>
/// <param name="Script">ISO 15924 code, <c>Jpan</c> for Japanese, or <c>und</c>.</param>
public readonly record struct DetectedLanguage(string Language, string Script);
