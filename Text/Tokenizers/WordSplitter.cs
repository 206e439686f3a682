namespace LlmPipeline.Text;

/// <summary>The known ways to cut text into words.</summary>
public static class WordSplitter
{
    /// <summary>
    /// For new vocabularies. Letters with the marks and joiners that belong to them are one word, so words of every script stay whole
    /// (also the syllables of Tibetan, which a tsheg joins); one character before them, usually a space or an apostrophe, goes with
    /// them ("don't" is "don" and "'t"); digits in groups of at most three.
    /// </summary>
    public static IWordSplitter Default { get; } = new ScanningSplitter<DefaultScanner>(
        "default", "[^\\r\\n\\p{L}\\p{N}]?\\p{L}[\\p{L}\\p{M}\\u0f0b\\u0f0c\\u200c\\u200d]*|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");

    /// <summary>GPT-2's (openai/gpt-2, src/encoder.py).</summary>
    public static IWordSplitter Gpt2 { get; } = new ScanningSplitter<Gpt2Scanner>(
        "gpt2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+");

    /// <summary>GPT-4's cl100k_base (openai/tiktoken, tiktoken_ext/openai_public.py), as <c>tokenizer.json</c> files write it.</summary>
    public static IWordSplitter Gpt4 { get; } = new ScanningSplitter<Gpt4Scanner>(
        "gpt4", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");

    private static IWordSplitter[] Known { get; } = [Default, Gpt2, Gpt4];

    /// <summary>Finds a splitter by its name, or makes one of a .NET regular expression.</summary>
    /// <param name="pattern">"default", "gpt2", "gpt4", a regular expression, or the pattern of a known splitter.</param>
    /// <exception cref="InvalidDataException">It is neither; the message says why.</exception>
    public static IWordSplitter Create(string pattern)
    {
        ArgumentNullException.ThrowIfNull(pattern);
        if (Array.Find(Known, s => s.Name == pattern || s.Pattern == pattern) is { } known)
        {
            return known;
        }

        if (pattern.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_'))
        {
            throw new InvalidDataException(
                $"The split pattern {BpeVocabulary.Quote(pattern)} is not known: use {string.Join(", ", Known.Select(s => s.Name))}, or a .NET regular expression.");
        }

        try
        {
            return new RegexSplitter(pattern);
        }
        catch (ArgumentException exception)
        {
            throw new InvalidDataException($"The split pattern {BpeVocabulary.Quote(pattern)} is not a .NET regular expression: {exception.Message}", exception);
        }
    }
}
