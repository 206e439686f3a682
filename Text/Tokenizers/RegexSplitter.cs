using System.Buffers;
using System.Text;
using System.Text.RegularExpressions;

namespace LlmPipeline.Text;

/// <summary>
/// Any .NET regular expression: its matches and what lies between them are the words. It sees UTF-16, so that a character beyond U+FFFF is
/// two surrogates to it, in no class of letters; a word never ends between them.
/// </summary>
internal sealed class RegexSplitter : IWordSplitter
{
    // For one match: a pattern that backtracks without end has to fail, not to hang.
    private static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(10);

    private readonly Regex _regex;

    /// <param name="pattern">The regular expression.</param>
    /// <param name="timeout">Longest time for one match; by default 10 s.</param>
    /// <exception cref="ArgumentException">Not a regular expression.</exception>
    public RegexSplitter(string pattern, TimeSpan? timeout = null)
    {
        Pattern = pattern;
        _regex = new Regex(pattern, RegexOptions.CultureInvariant | RegexOptions.Compiled, timeout ?? DefaultTimeout);
    }

    public string Name => Pattern;

    public string Pattern { get; }

    public void Split<TSink>(ReadOnlySpan<byte> utf8, ref TSink sink)
        where TSink : IWordSink, allows ref struct
    {
        var chars = ArrayPool<char>.Shared.Rent(utf8.Length);
        try
        {
            ReadOnlySpan<char> text = chars.AsSpan(0, Encoding.UTF8.GetChars(utf8, chars));
            var (read, written) = (0, 0);
            foreach (var match in _regex.EnumerateMatches(text))
            {
                Cut(text, match.Index, utf8, ref read, ref written, ref sink);
                Cut(text, match.Index + match.Length, utf8, ref read, ref written, ref sink);
            }

            Cut(text, text.Length, utf8, ref read, ref written, ref sink);
        }
        catch (RegexMatchTimeoutException exception)
        {
            throw new InvalidDataException(
                $"The split pattern {BpeVocabulary.Quote(Pattern)} took more than {_regex.MatchTimeout.TotalSeconds} s for one word of a text of {utf8.Length} bytes: simplify it, nested repetitions are the usual cause.", exception);
        }
        finally
        {
            ArrayPool<char>.Shared.Return(chars);
        }
    }

    public int LastSafeCut(ReadOnlySpan<byte> utf8) => 0;

    private static void Cut<TSink>(ReadOnlySpan<char> text, int end, ReadOnlySpan<byte> utf8, ref int read, ref int written, ref TSink sink)
        where TSink : IWordSink, allows ref struct
    {
        if (end < text.Length && char.IsLowSurrogate(text[end]))
        {
            end++;
        }

        if (end <= read)
        {
            return;
        }

        var start = written;
        written += Encoding.UTF8.GetByteCount(text[read..end]);
        read = end;
        sink.Add(utf8, start, written);
    }
}
