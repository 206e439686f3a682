using System.Text;
using System.Text.RegularExpressions;

namespace LlmPipeline.Text;

/// <summary>Reads "pre_tokenizer".</summary>
internal static class JsonPreTokenizers
{
    private const string Known = "ByteLevel, Split, Metaspace, BertPreTokenizer, Whitespace, WhitespaceSplit, Digits, Punctuation, CharDelimiterSplit and Sequence";

    private static readonly Regex WordsAndSymbols = new($@"[{JsonPatterns.WordCharacters}\u200c\u200d]+|[^{JsonPatterns.WordCharacters}\u200c\u200d\s]+", RegexOptions.CultureInvariant);

    public static PreTokenizer? Read(JsonPart part) => part.Text("type") switch
    {
        "Sequence" => Sequence([.. part.Get("pretokenizers").Items().Select(Read).OfType<PreTokenizer>()]),
        "ByteLevel" => new ByteLevelPreTokenizer(part.Bool("add_prefix_space", true), part.Bool("use_regex", true)),
        "Split" => Split(part),
        "Metaspace" => Metaspace(part),
        "BertPreTokenizer" => Sequence([WhitespaceRemoved(), new DelimiterPreTokenizer(Delimiters.Each(Delimiters.IsPunctuation), SplitBehavior.Isolated)]),
        "Whitespace" => new DelimiterPreTokenizer(Delimiters.Of(WordsAndSymbols), SplitBehavior.Removed, invert: true),
        "WhitespaceSplit" => WhitespaceRemoved(),
        "Digits" => new DelimiterPreTokenizer(Delimiters.Each(Delimiters.IsNumber), part.Bool("individual_digits", false) ? SplitBehavior.Isolated : SplitBehavior.Contiguous),
        "Punctuation" => new DelimiterPreTokenizer(Delimiters.Each(Delimiters.IsPunctuation), Behavior(part, SplitBehavior.Isolated)),
        "CharDelimiterSplit" => CharacterSplit(part.Character("delimiter")),
        var type => throw new InvalidDataException($"{part.Path}.type is {JsonPart.Quote(type)}: only {Known} are supported."),
    };

    /// <summary>The scheme of a Metaspace pre-tokenizer or decoder; older files have a switch instead.</summary>
    public static PrependScheme Scheme(JsonPart part) => part.TextOrNull("prepend_scheme") switch
    {
        null => part.Bool("add_prefix_space", true) ? PrependScheme.Always : PrependScheme.Never,
        "always" => PrependScheme.Always,
        "first" => PrependScheme.First,
        "never" => PrependScheme.Never,
        var scheme => throw new InvalidDataException($"{part.Path}.prepend_scheme is {JsonPart.Quote(scheme)}, and has to be always, first or never."),
    };

    private static PreTokenizer? Sequence(List<PreTokenizer> steps) => steps switch
    {
        [] => null,
        [var only] => only,
        _ => new PreTokenizerSequence(steps),
    };

    private static MetaspacePreTokenizer Metaspace(JsonPart part) => new(part.Character("replacement"), Scheme(part), part.Bool("split", true));

    private static DelimiterPreTokenizer WhitespaceRemoved() => new(Delimiters.Each(Rune.IsWhiteSpace), SplitBehavior.Removed);

    private static DelimiterPreTokenizer CharacterSplit(char delimiter) => new(Delimiters.Each(r => r.Value == delimiter), SplitBehavior.Removed);

    private static PreTokenizer Split(JsonPart part)
    {
        var (pattern, behavior, invert) = (part.Get("pattern"), Behavior(part, null), part.Bool("invert", false));
        if (pattern.TextOrNull("Regex") is { } text && TextSplitter.Find(text) is { } splitter && behavior == splitter.Behavior && invert == splitter.Invert)
        {
            return new ScanningPreTokenizer(splitter.FirstPart);
        }

        return new DelimiterPreTokenizer(Delimiters.Of(JsonPatterns.Read(pattern)), behavior, invert);
    }

    private static SplitBehavior Behavior(JsonPart part, SplitBehavior? otherwise) => part.TextOrNull("behavior") switch
    {
        null when otherwise is { } behavior => behavior,
        "Removed" => SplitBehavior.Removed,
        "Isolated" => SplitBehavior.Isolated,
        "MergedWithPrevious" => SplitBehavior.MergedWithPrevious,
        "MergedWithNext" => SplitBehavior.MergedWithNext,
        "Contiguous" => SplitBehavior.Contiguous,
        var behavior => throw new InvalidDataException(
            $"{part.Path}.behavior is {JsonPart.Quote(behavior ?? "")}, and has to be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous."),
    };
}
