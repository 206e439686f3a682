namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// How documents are cleaned. The steps run in this order: markup, Unicode, personal data, letter case, punctuation, numbers, white
/// space; then the quality filters see the cleaned text, and duplicates are looked for among what is left.
/// </summary>
public sealed record CleaningOptions
{
    /// <summary>HTML and Markdown.</summary>
    public MarkupMode Markup { get; init; }

    /// <summary>Unicode normalization.</summary>
    public UnicodeMode Unicode { get; init; } = UnicodeMode.Nfc;

    /// <summary>Letter case.</summary>
    public LetterCaseMode LetterCase { get; init; }

    /// <summary>Punctuation.</summary>
    public PunctuationMode Punctuation { get; init; }

    /// <summary>Digits.</summary>
    public NumberMode Numbers { get; init; }

    /// <summary>Trims lines at their end, turns CRLF and CR into LF, and keeps at most one blank line.</summary>
    public bool Whitespace { get; init; }

    /// <summary>Documents that are left out.</summary>
    public QualityOptions Quality { get; init; } = new();

    /// <summary>Duplicates that are left out or kept together.</summary>
    public DuplicateOptions Duplicates { get; init; } = new();

    /// <summary>Personal data.</summary>
    public PersonalDataOptions PersonalData { get; init; } = new();
}

/// <summary>Filters of whole documents; 0 switches one off.</summary>
public sealed record QualityOptions
{
    /// <summary>Fewest code points.</summary>
    public long MinCharacters { get; init; }

    /// <summary>Most code points.</summary>
    public long MaxCharacters { get; init; }

    /// <summary>Largest share of code points that are neither letters, marks, digits nor white space.</summary>
    public double MaxSymbolRatio { get; init; }

    /// <summary>Largest share of characters in lines that occurred before in the document (Rae et al. 2021).</summary>
    public double MaxRepeatedLineRatio { get; init; }

    /// <summary>Largest share of characters in the most frequent word 4-gram (Rae et al. 2021).</summary>
    public double MaxRepeatedNgramRatio { get; init; }
}

/// <summary>Duplicates of earlier documents.</summary>
public sealed record DuplicateOptions
{
    /// <summary>Whether documents with the text of an earlier one are left out.</summary>
    public bool Exact { get; init; } = true;

    /// <summary>What happens to near-duplicates.</summary>
    public NearDuplicateMode Near { get; init; }

    /// <summary>Estimated Jaccard similarity of word 5-gram sets from which two documents are near-duplicates, 0.5 to 1.</summary>
    public double Threshold { get; init; } = 0.8;

    /// <summary>Memory of the index in MiB, beyond which it is spilled to disk.</summary>
    public int MemoryMib { get; init; } = 128;
}

/// <summary>Mail addresses, phone numbers, IP addresses.</summary>
public sealed record PersonalDataOptions
{
    /// <summary>What is done with it.</summary>
    public PersonalDataAction Action { get; init; }

    /// <summary>Which kinds; empty: all of them.</summary>
    public IReadOnlyList<PersonalDataKind> Kinds { get; init; } = [];
}

/// <summary>Unicode normalization forms.</summary>
public enum UnicodeMode
{
    /// <summary>Text stays as it is.</summary>
    None,

    /// <summary>Canonical composition.</summary>
    Nfc,

    /// <summary>Compatibility composition: ligatures, full-width letters, superscripts become plain characters.</summary>
    Nfkc,
}

/// <summary>What happens to markup.</summary>
public enum MarkupMode
{
    /// <summary>It stays.</summary>
    Keep,

    /// <summary>HTML tags, comments, scripts and styles go, entities are decoded, Markdown marks go.</summary>
    Strip,
}

/// <summary>What happens to letter case.</summary>
public enum LetterCaseMode
{
    /// <summary>It stays.</summary>
    Keep,

    /// <summary>Lower case, by the invariant culture.</summary>
    Lower,
}

/// <summary>What happens to punctuation.</summary>
public enum PunctuationMode
{
    /// <summary>It stays.</summary>
    Keep,

    /// <summary>Typographic quotes, dashes and ellipses become ASCII.</summary>
    Normalize,

    /// <summary>Unicode punctuation (categories P*) and the ASCII symbols go.</summary>
    Remove,
}

/// <summary>What happens to decimal digits of any script.</summary>
public enum NumberMode
{
    /// <summary>They stay.</summary>
    Keep,

    /// <summary>Each becomes 0.</summary>
    Zero,

    /// <summary>They go.</summary>
    Remove,
}

/// <summary>What happens to near-duplicates.</summary>
public enum NearDuplicateMode
{
    /// <summary>They are not looked for.</summary>
    Off,

    /// <summary>They stay, all in the split of the first of their kind.</summary>
    Keep,

    /// <summary>The first of a kind stays.</summary>
    Remove,
}

/// <summary>What happens to personal data.</summary>
public enum PersonalDataAction
{
    /// <summary>It is not looked for.</summary>
    Off,

    /// <summary>It is counted.</summary>
    Find,

    /// <summary>It is replaced by a mark, <c>&lt;EMAIL&gt;</c>, <c>&lt;PHONE&gt;</c> or <c>&lt;IP&gt;</c>.</summary>
    Redact,
}

/// <summary>Kinds of personal data.</summary>
public enum PersonalDataKind
{
    /// <summary>Mail addresses.</summary>
    Email,

    /// <summary>Phone numbers.</summary>
    Phone,

    /// <summary>IPv4 and IPv6 addresses.</summary>
    Ip,
}
