using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>Cleans documents, one at a time. Safe for several threads, each with its own counts.</summary>
public sealed class DocumentCleaner(CleaningOptions options)
{
    private readonly CharacterStep? _punctuation = options.Punctuation switch
    {
        PunctuationMode.Normalize => CharacterStep.NormalizePunctuation,
        PunctuationMode.Remove => CharacterStep.RemovePunctuation,
        _ => null,
    };

    private readonly CharacterStep? _numbers = options.Numbers switch
    {
        NumberMode.Zero => CharacterStep.ZeroDigits,
        NumberMode.Remove => CharacterStep.RemoveDigits,
        _ => null,
    };

    /// <summary>Cleans a document. Any string is taken; with no step switched on, a document that is kept is the text itself.</summary>
    /// <param name="text">The document.</param>
    /// <param name="counts">Takes what was done.</param>
    public CleanedText Clean(string text, CleaningCounts counts)
    {
        counts.Documents++;
        if (options.Unicode != UnicodeMode.None)
        {
            text = Step("unicode", text, Normalize, counts);
        }

        if (options.LetterCase == LetterCaseMode.Lower)
        {
            text = Step("letter_case", text, static t => t.ToLowerInvariant(), counts);
        }

        if (_punctuation is not null)
        {
            text = Step("punctuation", text, _punctuation.Apply, counts);
        }

        if (_numbers is not null)
        {
            text = Step("numbers", text, _numbers.Apply, counts);
        }

        if (options.Whitespace)
        {
            text = Step("whitespace", text, WhitespaceStep.Apply, counts);
        }

        if (string.IsNullOrWhiteSpace(text))
        {
            counts.AddDropped(DropReason.Empty);
            return new CleanedText(null, DropReason.Empty);
        }

        counts.DocumentsKept++;
        return new CleanedText(text, null);
    }

    private string Normalize(string text) => UnicodeStep.Apply(text, options.Unicode == UnicodeMode.Nfc ? NormalizationForm.FormC : NormalizationForm.FormKC);

    private static string Step(string name, string text, Func<string, string> apply, CleaningCounts counts)
    {
        var cleaned = apply(text);
        if (!ReferenceEquals(cleaned, text) && cleaned != text)
        {
            counts.AddChange(name, text, cleaned);
        }

        return cleaned;
    }
}

/// <summary>A document after cleaning.</summary>
/// <param name="Text">Its text; null when it is left out.</param>
/// <param name="Dropped">Why it is left out; null when it is kept.</param>
public readonly record struct CleanedText(string? Text, DropReason? Dropped);
