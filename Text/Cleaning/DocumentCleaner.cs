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

    private readonly PersonalDataStep? _personalData = options.PersonalData.Action == PersonalDataAction.Off ? null : new PersonalDataStep(options.PersonalData);
    private readonly QualityFilter _quality = new(options.Quality);

    /// <summary>Cleans a document. Any string is taken; with no step switched on, a document that is kept is the text itself.</summary>
    /// <param name="text">The document.</param>
    /// <param name="counts">Takes what was done.</param>
    public CleanedText Clean(string text, CleaningCounts counts)
    {
        counts.Documents++;
        text = ApplySteps(text, counts);
        var dropped = string.IsNullOrWhiteSpace(text) ? DropReason.Empty : _quality.Judge(text);
        if (dropped is { } reason)
        {
            counts.AddDropped(reason);
            return new CleanedText(null, reason);
        }

        counts.DocumentsKept++;
        return new CleanedText(text, null);
    }

    private string ApplySteps(string text, CleaningCounts counts)
    {
        // Entities are decoded before text is normalized, and data is found before its letters and signs change.
        if (options.Markup == MarkupMode.Strip)
        {
            text = Step("markup", text, MarkupStep.Apply, counts);
        }

        if (options.Unicode != UnicodeMode.None)
        {
            text = Step("unicode", text, Normalize, counts);
        }

        if (_personalData is not null)
        {
            text = Step("personal_data", text, t => _personalData.Apply(t, counts), counts);
        }

        var normalized = text;
        if (options.LetterCase == LetterCaseMode.Lower)
        {
            text = Step("letter_case", text, Around(static t => t.ToLowerInvariant()), counts);
        }

        if (_punctuation is not null)
        {
            text = Step("punctuation", text, Around(_punctuation.Apply), counts);
        }

        if (_numbers is not null)
        {
            text = Step("numbers", text, Around(_numbers.Apply), counts);
        }

        if (options.Whitespace)
        {
            text = Step("whitespace", text, WhitespaceStep.Apply, counts);
        }

        // A mark may have moved to another letter when what stood between them went.
        return options.Unicode == UnicodeMode.None || ReferenceEquals(text, normalized) ? text : Normalize(text);
    }

    // The marks of redacted data are not text to be changed.
    private Func<string, string> Around(Func<string, string> apply) => options.PersonalData.Action == PersonalDataAction.Redact
        ? text => RedactionMarks.ApplyAround(text, apply)
        : apply;

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
