namespace LlmPipeline.Text;

/// <summary>The words that merges are learned from, as ids one after another in one array; merging shortens a word in its place.</summary>
internal sealed class BpeWords
{
    private readonly int[] _ids;
    private readonly int[] _starts;
    private readonly int[] _lengths;
    private readonly long[] _counts;

    /// <param name="words">Those of one byte are left out: they have no pairs.</param>
    /// <param name="idOfByte">Ids of the 256 bytes.</param>
    public BpeWords(WordCounts words, int[] idOfByte)
    {
        var (count, total) = (0, 0L);
        for (var i = 0; i < words.DistinctCount; i++)
        {
            var length = words.WordAt(i).Length;
            (count, total) = length > 1 ? (count + 1, total + length) : (count, total);
        }

        if (total > Array.MaxLength)
        {
            throw new InvalidDataException($"The distinct words have {total:N0} bytes in all, more than {Array.MaxLength:N0}: train the tokenizer on less text.");
        }

        (_ids, _starts, _lengths, _counts) = (new int[total], new int[count], new int[count], new long[count]);
        var (word, at) = (0, 0);
        for (var i = 0; i < words.DistinctCount; i++)
        {
            var bytes = words.WordAt(i);
            if (bytes.Length < 2)
            {
                continue;
            }

            (_starts[word], _lengths[word], _counts[word]) = (at, bytes.Length, words.CountAt(i));
            word++;
            foreach (var value in bytes)
            {
                _ids[at++] = idOfByte[value];
            }
        }
    }

    /// <summary>Number of words.</summary>
    public int Count => _starts.Length;

    /// <summary>The ids that are left of a word.</summary>
    public Span<int> IdsOf(int word) => _ids.AsSpan(_starts[word], _lengths[word]);

    /// <summary>How often a word occurs in the text.</summary>
    public long CountOf(int word) => _counts[word];

    /// <summary>Says that a word has fewer ids.</summary>
    public void Shorten(int word, int length) => _lengths[word] = length;
}
