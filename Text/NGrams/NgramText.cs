namespace LlmPipeline.Text.NGrams;

/// <summary>
/// The tokens of a split as n-grams are counted: documents are apart. The end-of-text id before a document is context for it
/// (what other tools write as a sentence begin), the one after it is predicted; no n-gram reaches across. A text begins with
/// an end-of-text id that nobody wrote.
/// </summary>
internal sealed class NgramText
{
    private const int BlockLength = 1 << 18;
    private const int MaxTokens = 1_000_000_000;

    private readonly int[] _ids;
    private readonly int _endOfText;
    private readonly int _order;
    private readonly int _bits;

    private NgramText(int[] ids, int vocabularySize, int endOfText, int order)
    {
        (_ids, _endOfText, _order) = (ids, endOfText, order);
        _bits = 32 - System.Numerics.BitOperations.LeadingZeroCount((uint)vocabularySize);
    }

    /// <summary>Number of positions, the end-of-text id at the front included: at each an n-gram begins.</summary>
    public int Length => _ids.Length;

    /// <summary>Ids that one key holds.</summary>
    public int KeyLength => 64 / _bits;

    /// <summary>Reads a split.</summary>
    /// <exception cref="InvalidDataException">The split is empty, or has an id that is not of the vocabulary.</exception>
    /// <exception cref="ArgumentException">The split is too long.</exception>
    public static NgramText Read(TokenSplit split, int vocabularySize, int endOfText, int order, CancellationToken cancellationToken)
    {
        if (split.TokenCount == 0)
        {
            throw new InvalidDataException("The split has no tokens to count.");
        }

        if (split.TokenCount > MaxTokens)
        {
            throw new ArgumentException($"The split has {split.TokenCount} tokens; n-grams are counted over {MaxTokens} at most. Use less text, or a tokenizer with more ids.", nameof(split));
        }

        var ids = new int[split.TokenCount + 1];
        ids[0] = endOfText;
        for (var begin = 1; begin < ids.Length; begin += BlockLength)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var block = ids.AsSpan(begin, Math.Min(BlockLength, ids.Length - begin));
            split.Read(begin - 1, block);
            var wrong = block.IndexOfAnyExceptInRange(0, vocabularySize - 1);
            if (wrong >= 0)
            {
                throw new InvalidDataException($"Token {begin - 1 + wrong} of the split is {block[wrong]}, which is not an id of the vocabulary of {vocabularySize}. Create the dataset again.");
            }
        }

        return new NgramText(ids, vocabularySize, endOfText, order);
    }

    /// <summary>The id at a distance from a position.</summary>
    public int this[int position, int distance] => _ids[position + distance];

    /// <summary>Number of ids of the longest n-gram that begins at a position.</summary>
    public int LengthAt(int position)
    {
        var most = Math.Min(_order, _ids.Length - position);
        for (var length = 1; length < most; length++)
        {
            if (_ids[position + length] == _endOfText)
            {
                return length + 1;
            }
        }

        return most;
    }

    /// <summary>Ids that the longest n-grams at two positions have in common.</summary>
    public int CommonLength(int a, int b)
    {
        var most = Math.Min(LengthAt(a), LengthAt(b));
        var length = 0;
        while (length < most && _ids[a + length] == _ids[b + length])
        {
            length++;
        }

        return length;
    }

    /// <summary>Some ids of the n-gram at a position as one number that sorts like them; what is beyond its end counts as 0.</summary>
    /// <param name="position">Where the n-gram begins.</param>
    /// <param name="number">0 for its first <see cref="KeyLength"/> ids, 1 for the next, ...</param>
    public ulong KeyAt(int position, int number)
    {
        var length = LengthAt(position);
        ulong key = 0;
        for (var i = number * KeyLength; i < (number + 1) * KeyLength; i++)
        {
            key = (key << _bits) | (i < length ? (uint)_ids[position + i] + 1 : 0);
        }

        return key;
    }
}
