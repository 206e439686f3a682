namespace LlmPipeline.Text;

/// <summary>Turns one piece of text into ids.</summary>
internal abstract class TokenModel
{
    /// <summary>Appends the ids of a piece that is not empty and, where wanted, the chars of it that each one covers.</summary>
    /// <param name="piece">The text.</param>
    /// <param name="ids">Takes ids.</param>
    /// <param name="ranges">Takes start and length, in chars of the piece; null when nobody wants them.</param>
    public abstract void Encode(ReadOnlySpan<char> piece, List<int> ids, List<(int Start, int Length)>? ranges);
}

/// <summary>A piece is an id, or unknown.</summary>
internal sealed class WordLevelModel : TokenModel
{
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _ids;
    private readonly int _unknown;

    public WordLevelModel(Dictionary<string, int> vocabulary, int unknown) => (_ids, _unknown) = (vocabulary.GetAlternateLookup<ReadOnlySpan<char>>(), unknown);

    public override void Encode(ReadOnlySpan<char> piece, List<int> ids, List<(int Start, int Length)>? ranges)
    {
        ids.Add(_ids.TryGetValue(piece, out var id) ? id : _unknown);
        ranges?.Add((0, piece.Length));
    }
}

/// <summary>
/// WordPiece (Schuster and Nakajima 2012; as in BERT): the longest token that a word begins with, then the longest that continues
/// it, and so on. A word that cannot be made of tokens, or is too long, is unknown as a whole.
/// </summary>
internal sealed class WordPieceModel : TokenModel
{
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _ids;
    private readonly int _unknown;
    private readonly string _prefix;
    private readonly int _maxCharacters;
    private readonly int _longest;

    public WordPieceModel(Dictionary<string, int> vocabulary, int unknown, string continuationPrefix, int maxCharacters)
    {
        _ids = vocabulary.GetAlternateLookup<ReadOnlySpan<char>>();
        (_unknown, _prefix, _maxCharacters) = (unknown, continuationPrefix, maxCharacters);
        _longest = vocabulary.Keys.Select(k => k.Length).DefaultIfEmpty(0).Max();
    }

    public override void Encode(ReadOnlySpan<char> piece, List<int> ids, List<(int Start, int Length)>? ranges)
    {
        var (firstId, firstRange) = (ids.Count, ranges?.Count ?? 0);
        if (piece.Length > _maxCharacters && CountCharacters(piece) > _maxCharacters)
        {
            ids.Add(_unknown);
            ranges?.Add((0, piece.Length));
            return;
        }

        const int Small = 256;
        Span<char> buffer = _prefix.Length + piece.Length <= Small ? stackalloc char[Small] : new char[_prefix.Length + piece.Length];
        _prefix.CopyTo(buffer);
        piece.CopyTo(buffer[_prefix.Length..]);
        for (var start = 0; start < piece.Length;)
        {
            var length = Math.Min(piece.Length - start, _longest);
            var id = -1;
            while (length > 0 && !TryFind(buffer, start, length, out id))
            {
                length--;
            }

            if (length == 0)
            {
                ids.RemoveRange(firstId, ids.Count - firstId);
                ranges?.RemoveRange(firstRange, ranges.Count - firstRange);
                ids.Add(_unknown);
                ranges?.Add((0, piece.Length));
                return;
            }

            ids.Add(id);
            ranges?.Add((start, length));
            start += length;
        }
    }

    // The prefix is written over what lies before the token, which has been encoded already.
    private bool TryFind(Span<char> buffer, int start, int length, out int id)
    {
        var from = _prefix.Length + start;
        if (start == 0)
        {
            return _ids.TryGetValue(buffer.Slice(from, length), out id);
        }

        _prefix.CopyTo(buffer[start..]);
        return _ids.TryGetValue(buffer.Slice(start, _prefix.Length + length), out id);
    }

    private static int CountCharacters(ReadOnlySpan<char> text)
    {
        var count = 0;
        foreach (var c in text)
        {
            count += char.IsLowSurrogate(c) ? 0 : 1;
        }

        return count;
    }
}
