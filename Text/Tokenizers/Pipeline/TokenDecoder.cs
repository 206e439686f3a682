using System.Text;
using System.Text.RegularExpressions;

namespace LlmPipeline.Text;

/// <summary>One step from tokens to text.</summary>
internal abstract record DecoderStep
{
    /// <summary>GPT-2's printable characters become bytes; a token with another character stays as it is.</summary>
    public sealed record ByteLevel : DecoderStep;

    /// <summary>A token like &lt;0x0A&gt; becomes a byte.</summary>
    public sealed record ByteFallback : DecoderStep;

    /// <summary>Tokens are joined; what follows sees the text.</summary>
    public sealed record Fuse : DecoderStep;

    /// <summary>Replaces what a pattern matches.</summary>
    public sealed record Replace(Regex Pattern, string Content) : DecoderStep;

    /// <summary>Drops a character at the begin and the end, at most so many times.</summary>
    public sealed record Strip(char Content, int Start, int Stop) : DecoderStep;

    /// <summary>A visible character becomes a space; in the first token it is dropped, where it was put there.</summary>
    public sealed record Metaspace(char Replacement, bool DropsFirst) : DecoderStep;

    /// <summary>Spaces between words; continuing tokens lose their prefix.</summary>
    public sealed record WordPiece(string Prefix, bool Cleanup) : DecoderStep;

    /// <summary>An end-of-word mark becomes a space, but at the end of the text.</summary>
    public sealed record EndOfWord(string Suffix) : DecoderStep;

    /// <summary>A space between tokens.</summary>
    public sealed record Join : DecoderStep;

    /// <summary>A space on either side of a line feed goes.</summary>
    public sealed record TightLineFeeds : DecoderStep;
}

/// <summary>
/// The bytes that an id adds to a text. They depend on the id before it only in whether there is one (a first word has no space
/// before it) and in whether that one ended a word, so that a stream of ids decodes to what all of them decode to at once.
/// </summary>
internal sealed class TokenDecoder
{
    private readonly byte[][] _first; // at the begin of a text
    private readonly byte[][] _spaced; // a space, then what the id adds elsewhere
    private readonly bool[] _endsWord;
    private readonly bool[] _takesSpace; // whether the space of a word that ended before it is written

    /// <param name="tokens">By id; null for special tokens and unused ids.</param>
    /// <param name="steps">In order.</param>
    public TokenDecoder(string?[] tokens, IReadOnlyList<DecoderStep> steps)
    {
        (_first, _spaced) = (new byte[tokens.Length][], new byte[tokens.Length][]);
        (_endsWord, _takesSpace) = (new bool[tokens.Length], new bool[tokens.Length]);
        var tight = steps.Any(s => s is DecoderStep.TightLineFeeds);
        for (var id = 0; id < tokens.Length; id++)
        {
            if (tokens[id] is not { } token)
            {
                (_first[id], _spaced[id]) = ([], [(byte)' ']);
                continue;
            }

            _first[id] = Apply(token, steps, isFirst: true, out _);
            _spaced[id] = [(byte)' ', .. Apply(token, steps, isFirst: false, out _endsWord[id])];
            var isLineFeed = tight && _spaced[id] is [_, (byte)'\n'];
            _takesSpace[id] = !isLineFeed;
            _endsWord[id] &= !isLineFeed;
        }
    }

    /// <summary>Number of ids.</summary>
    public int Count => _first.Length;

    /// <summary>What an id adds in the middle of a text.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such id.</exception>
    public ReadOnlySpan<byte> BytesOf(int id) => (uint)id < (uint)_spaced.Length
        ? _spaced[id].AsSpan(1)
        : throw new ArgumentOutOfRangeException(nameof(id), $"{id} is not an id: the vocabulary has ids 0 to {_spaced.Length - 1}.");

    /// <summary>What an id adds after another one.</summary>
    /// <param name="previous">The id before it; -1 at the begin.</param>
    /// <param name="id">The id.</param>
    public ReadOnlySpan<byte> BytesAfter(int previous, int id)
    {
        var bytes = BytesOf(id);
        if (bytes.IsEmpty)
        {
            return bytes;
        }

        return previous < 0 ? _first[id] : _endsWord[previous] && _takesSpace[id] ? _spaced[id] : bytes;
    }

    private static byte[] Apply(string token, IReadOnlyList<DecoderStep> steps, bool isFirst, out bool endsWord)
    {
        endsWord = false;
        byte[]? bytes = null;
        var fused = false;
        foreach (var step in steps)
        {
            switch (step)
            {
                case DecoderStep.ByteLevel:
                    bytes = ByteAlphabet.TryRead(token) ?? Encoding.UTF8.GetBytes(token);
                    break;
                case DecoderStep.ByteFallback when ByteTokens.TryRead(token, out var value):
                    bytes = [value];
                    break;
                case DecoderStep.Fuse:
                    fused = true;
                    break;
                case DecoderStep.Replace replace:
                    token = replace.Pattern.Replace(token, _ => replace.Content);
                    break;
                case DecoderStep.Strip strip when !fused || isFirst:
                    token = StripOf(token, strip, stop: !fused);
                    break;
                case DecoderStep.Metaspace metaspace:
                    token = token.Replace(metaspace.Replacement.ToString(), isFirst && metaspace.DropsFirst ? "" : " ", StringComparison.Ordinal);
                    break;
                case DecoderStep.WordPiece wordPiece:
                    token = isFirst ? token : token.StartsWith(wordPiece.Prefix, StringComparison.Ordinal) ? token[wordPiece.Prefix.Length..] : " " + token;
                    token = wordPiece.Cleanup ? Clean(token) : token;
                    break;
                case DecoderStep.EndOfWord mark:
                    endsWord = token.EndsWith(mark.Suffix, StringComparison.Ordinal);
                    token = (endsWord ? token[..^mark.Suffix.Length] : token).Replace(mark.Suffix, " ", StringComparison.Ordinal);
                    break;
                case DecoderStep.Join:
                    token = isFirst ? token : " " + token;
                    break;
                default:
                    break;
            }
        }

        return bytes ?? Encoding.UTF8.GetBytes(token);
    }

    private static string StripOf(string token, DecoderStep.Strip strip, bool stop)
    {
        var (start, end) = (0, token.Length);
        while (start < strip.Start && start < end && token[start] == strip.Content)
        {
            start++;
        }

        for (var i = 0; stop && i < strip.Stop && end > start && token[end - 1] == strip.Content; i++)
        {
            end--;
        }

        return token[start..end];
    }

    // What other implementations call the clean-up of tokenization spaces.
    private static string Clean(string token) => token
        .Replace(" .", ".", StringComparison.Ordinal).Replace(" ?", "?", StringComparison.Ordinal).Replace(" !", "!", StringComparison.Ordinal)
        .Replace(" ,", ",", StringComparison.Ordinal).Replace(" ' ", "'", StringComparison.Ordinal).Replace(" n't", "n't", StringComparison.Ordinal)
        .Replace(" 'm", "'m", StringComparison.Ordinal).Replace(" do not", " don't", StringComparison.Ordinal).Replace(" 's", "'s", StringComparison.Ordinal)
        .Replace(" 've", "'ve", StringComparison.Ordinal).Replace(" 're", "'re", StringComparison.Ordinal);
}

/// <summary>Tokens that stand for single bytes: &lt;0x00&gt; to &lt;0xFF&gt;.</summary>
internal static class ByteTokens
{
    /// <summary>The token of a byte.</summary>
    public static string Write(int value) => $"<0x{value:X2}>";

    /// <summary>The byte of a token.</summary>
    public static bool TryRead(string token, out byte value)
    {
        value = 0;
        return token.Length == 6 && token.StartsWith("<0x", StringComparison.Ordinal) && token[5] == '>'
            && byte.TryParse(token.AsSpan(3, 2), System.Globalization.NumberStyles.AllowHexSpecifier, null, out value);
    }

    /// <summary>Ids of the 256 bytes; null unless all are there.</summary>
    public static int[]? Find(IReadOnlyDictionary<string, int> vocabulary)
    {
        var ids = new int[256];
        for (var b = 0; b < 256; b++)
        {
            if (!vocabulary.TryGetValue(Write(b), out ids[b]))
            {
                return null;
            }
        }

        return ids;
    }
}
