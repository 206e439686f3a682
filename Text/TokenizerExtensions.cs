using System.Buffers;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>Other forms of encoding.</summary>
public static class TokenizerExtensions
{
    /// <summary>The ids of a text.</summary>
    public static int[] Encode(this ITokenizer tokenizer, string text)
    {
        var ids = new List<int>(text.Length / 2);
        tokenizer.Encode(text, ids);
        return [.. ids];
    }

    /// <summary>Appends the ids of a text; half of a surrogate pair counts as U+FFFD.</summary>
    public static void Encode(this ITokenizer tokenizer, ReadOnlySpan<char> text, List<int> ids)
    {
        var utf8 = ArrayPool<byte>.Shared.Rent(Encoding.UTF8.GetMaxByteCount(text.Length));
        try
        {
            tokenizer.Encode(utf8.AsSpan(0, Encoding.UTF8.GetBytes(text, utf8)), ids);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(utf8);
        }
    }

    /// <summary>
    /// Appends the ids of a text in which special tokens may be written: the first, and of several at the same place the longest, becomes
    /// its id; what lies between is encoded as text of its own. For text that a program made, never for what a user wrote.
    /// </summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="text">The text.</param>
    /// <param name="ids">Takes the ids.</param>
    /// <param name="allowed">Which special tokens; null allows all.</param>
    /// <exception cref="ArgumentException">An allowed token is not one of the tokenizer's.</exception>
    public static void EncodeWithSpecialTokens(this ITokenizer tokenizer, ReadOnlySpan<char> text, List<int> ids, IReadOnlyCollection<string>? allowed = null)
    {
        var tokens = (allowed ?? [.. tokenizer.SpecialIds.Keys]).OrderByDescending(t => t.Length).ToArray();
        if (tokens.FirstOrDefault(t => !tokenizer.SpecialIds.ContainsKey(t)) is { } unknown)
        {
            throw new ArgumentException($"'{unknown}' is not a special token of this tokenizer; it has {string.Join(", ", tokenizer.SpecialIds.Keys)}.", nameof(allowed));
        }

        while (!text.IsEmpty)
        {
            var (at, found) = FirstOf(text, tokens);
            if (found is null)
            {
                tokenizer.Encode(text, ids);
                return;
            }

            if (at > 0)
            {
                tokenizer.Encode(text[..at], ids);
            }

            ids.Add(tokenizer.SpecialIds[found]);
            text = text[(at + found.Length)..];
        }
    }

    // Longest first, so that of two at the same place the longer one is kept.
    private static (int At, string? Token) FirstOf(ReadOnlySpan<char> text, string[] tokens)
    {
        var (first, found) = (text.Length, (string?)null);
        foreach (var token in tokens)
        {
            var at = text[..Math.Min(text.Length, first + token.Length - 1)].IndexOf(token, StringComparison.Ordinal);
            if (at >= 0 && at < first)
            {
                (first, found) = (at, token);
            }
        }

        return (first, found);
    }
}
