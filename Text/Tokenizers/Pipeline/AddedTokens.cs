using System.Globalization;

namespace LlmPipeline.Text;

/// <summary>A token beside the model's: text that is always this one id.</summary>
/// <param name="Content">The text.</param>
/// <param name="Id">The id.</param>
/// <param name="Special">Special tokens stand for no text, and text cannot make them.</param>
/// <param name="Normalized">Whether it is looked for in normalized text.</param>
/// <param name="SingleWord">Whether it has to stand between characters that are not part of a word.</param>
/// <param name="StripLeft">Whether it takes the white space before it.</param>
/// <param name="StripRight">Whether it takes the white space behind it.</param>
internal sealed record AddedToken(string Content, int Id, bool Special, bool Normalized = false, bool SingleWord = false, bool StripLeft = false, bool StripRight = false);

/// <summary>Cuts the added tokens that are not special out of text: the leftmost, the longest of them.</summary>
internal sealed class AddedTokens
{
    private readonly Dictionary<char, AddedToken[]> _raw;
    private readonly Dictionary<char, AddedToken[]> _normalized;

    /// <param name="tokens">All added tokens.</param>
    /// <param name="normalizer">Is applied to the content of those that are looked for in normalized text.</param>
    public AddedTokens(IEnumerable<AddedToken> tokens, Normalizer? normalizer)
    {
        var inText = tokens.Where(t => !t.Special).ToList();
        _raw = Index(inText.Where(t => !t.Normalized || normalizer is null));
        _normalized = Index(inText.Where(t => t.Normalized && normalizer is not null)
            .Select(t => t with { Content = normalizer!.Apply(new AlignedText(t.Content.AsMemory())).Span.ToString() }).Where(t => t.Content.Length > 0));
    }

    public bool IsEmpty => _raw.Count == 0 && _normalized.Count == 0;

    /// <summary>Sections of a text that is not normalized yet; those with an id are added tokens.</summary>
    public IEnumerable<(Piece Piece, int? Id)> CutRaw(Piece piece) => Cut(piece, _raw);

    /// <summary>Sections of a normalized text.</summary>
    public IEnumerable<(Piece Piece, int? Id)> CutNormalized(Piece piece) => Cut(piece, _normalized);

    private static Dictionary<char, AddedToken[]> Index(IEnumerable<AddedToken> tokens) =>
        tokens.GroupBy(t => t.Content[0]).ToDictionary(g => g.Key, g => g.OrderByDescending(t => t.Content.Length).ToArray());

    private static IEnumerable<(Piece Piece, int? Id)> Cut(Piece piece, Dictionary<char, AddedToken[]> tokens)
    {
        var begin = 0;
        for (var at = 0; tokens.Count > 0 && at < piece.Length; at++)
        {
            if (Find(piece.Span, at, tokens) is not { } token)
            {
                continue;
            }

            var (start, end) = (at, at + token.Content.Length);
            while (token.StripLeft && start > begin && char.IsWhiteSpace(piece.Span[start - 1]))
            {
                start--;
            }

            while (token.StripRight && end < piece.Length && char.IsWhiteSpace(piece.Span[end]))
            {
                end++;
            }

            if (start > begin)
            {
                yield return (piece.Slice(begin, start - begin), null);
            }

            yield return (piece.Slice(start, end - start), token.Id);
            begin = end;
            at = end - 1;
        }

        if (begin < piece.Length)
        {
            yield return (piece.Slice(begin, piece.Length - begin), null);
        }
    }

    private static AddedToken? Find(ReadOnlySpan<char> text, int at, Dictionary<char, AddedToken[]> tokens)
    {
        if (!tokens.TryGetValue(text[at], out var candidates))
        {
            return null;
        }

        foreach (var token in candidates)
        {
            var end = at + token.Content.Length;
            if (text[at..].StartsWith(token.Content, StringComparison.Ordinal)
                && !(token.SingleWord && ((at > 0 && IsWord(text[at - 1])) || (end < text.Length && IsWord(text[end])))))
            {
                return token;
            }
        }

        return null;
    }

    private static bool IsWord(char c) => char.IsLetterOrDigit(c) || c == '_' || char.GetUnicodeCategory(c) is UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark;
}
