namespace LlmPipeline.Text.NGrams;

/// <summary>How often each n-gram of a text occurs, for all orders up to one. The same whatever the number of threads.</summary>
/// <remarks>
/// Documents are apart: the end-of-text id before a document is context for it (what other tools write as a sentence begin),
/// the one after it is predicted, and no n-gram reaches across.
/// </remarks>
public sealed class NgramCounts
{
    internal NgramCounts(NgramTrie trie, int[] counts, int vocabularySize, int endOfTextId) =>
        (Trie, Counts, VocabularySize, EndOfTextId) = (trie, counts, vocabularySize, endOfTextId);

    /// <summary>Longest n-gram.</summary>
    public int Order => Trie.Order;

    /// <summary>Number of ids.</summary>
    public int VocabularySize { get; }

    /// <summary>Id between documents.</summary>
    public int EndOfTextId { get; }

    /// <summary>Number of distinct n-grams of all orders.</summary>
    public int NgramCount => Trie.Count - 1;

    internal NgramTrie Trie { get; }

    /// <summary>Occurrences by node; that of the root means nothing.</summary>
    internal int[] Counts { get; }

    /// <summary>Counts the n-grams of a split: 18 bytes a token while counting, 16 bytes a distinct n-gram in the end.</summary>
    /// <param name="split">The tokens, one stream.</param>
    /// <param name="vocabularySize">Number of ids.</param>
    /// <param name="endOfTextId">Id between documents.</param>
    /// <param name="order">Longest n-gram, 1 to <see cref="NgramOptions.MaxOrder"/>.</param>
    /// <param name="progress">Called with the share done, by many threads.</param>
    /// <param name="cancellationToken">Ends the counting.</param>
    /// <exception cref="InvalidDataException">The split is empty, or has an id that is not of the vocabulary.</exception>
    /// <exception cref="ArgumentException">A number is out of its range, or the text has more tokens or n-grams than can be counted.</exception>
    public static NgramCounts Of(
        TokenSplit split, int vocabularySize, int endOfTextId, int order, Action<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(split);
        ArgumentOutOfRangeException.ThrowIfLessThan(order, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(order, NgramOptions.MaxOrder);
        ArgumentOutOfRangeException.ThrowIfLessThan(vocabularySize, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(endOfTextId);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(endOfTextId, vocabularySize);
        var text = NgramText.Read(split, vocabularySize, endOfTextId, order, cancellationToken);
        var positions = NgramSort.Sort(text, order, share => progress?.Invoke(0.7 * share), cancellationToken);
        return new TrieBuilder(text, positions, order, cancellationToken).Build(vocabularySize, endOfTextId, progress);
    }

    /// <summary>Reads a file that <see cref="Write"/> wrote; everything in it is checked.</summary>
    /// <exception cref="InvalidDataException">The file is not such a one; the message says where.</exception>
    public static NgramCounts Read(string path, CancellationToken cancellationToken = default) => NgramFile.Read(path, cancellationToken);

    /// <summary>Writes the counts, about 4 bytes an n-gram (docs/formats.md).</summary>
    public void Write(Stream stream, CancellationToken cancellationToken = default) => NgramFile.Write(stream, this, cancellationToken);

    /// <summary>Makes a trie of sorted positions, in pieces: first how many n-grams begin in each, then the n-grams.</summary>
    private sealed class TrieBuilder(NgramText text, int[] positions, int order, CancellationToken cancellationToken)
    {
        private readonly byte[] _common = new byte[positions.Length];
        private readonly byte[] _lengths = new byte[positions.Length];
        private readonly int[] _pieces = ParallelRanges.Cut(0, positions.Length);

        public NgramCounts Build(int vocabularySize, int endOfTextId, Action<double>? progress)
        {
            var places = new int[_pieces.Length - 1][];
            ParallelRanges.Run(places.Length, piece => places[piece] = CountNew(_pieces[piece], _pieces[piece + 1]), cancellationToken);
            progress?.Invoke(0.8);

            // Numbers of new n-grams become places to write to: order by order, in each the pieces in their order.
            var orderStart = new int[order + 2];
            orderStart[1] = 1;
            for (var n = 1; n <= order; n++)
            {
                orderStart[n + 1] = orderStart[n];
                foreach (var place in places)
                {
                    var sum = (long)orderStart[n + 1] + place[n];
                    (place[n], orderStart[n + 1]) = (orderStart[n + 1], sum < int.MaxValue ? (int)sum : throw new ArgumentException(
                        $"The text has more than {int.MaxValue} different n-grams up to order {n}. Use a lower order than {order}, or less text."));
                }
            }

            var ids = new int[orderStart[^1]];
            var counts = new int[ids.Length];
            var firstChild = new int[orderStart[order] + 1];
            (firstChild[0], firstChild[^1]) = (1, ids.Length);
            ParallelRanges.Run(places.Length, piece => Emit(_pieces[piece], _pieces[piece + 1], places[piece], ids, counts, firstChild), cancellationToken);
            progress?.Invoke(0.9);

            var trie = new NgramTrie(vocabularySize, orderStart, ids, firstChild, cancellationToken);

            // Nobody predicts the end of text before the first document.
            counts[trie.Find(0, endOfTextId)]--;
            progress?.Invoke(1);
            return new NgramCounts(trie, counts, vocabularySize, endOfTextId);
        }

        private int[] CountNew(int begin, int end)
        {
            var found = new int[order + 1];
            for (var i = begin; i < end; i++)
            {
                var common = i == 0 ? 0 : text.CommonLength(positions[i - 1], positions[i]);
                var length = text.LengthAt(positions[i]);
                (_common[i], _lengths[i]) = ((byte)common, (byte)length);
                for (var n = common + 1; n <= length; n++)
                {
                    found[n]++;
                }
            }

            return found;
        }

        private void Emit(int begin, int end, int[] next, int[] ids, int[] counts, int[] firstChild)
        {
            // Occurrences of the newest n-gram of each order; it may have begun in an earlier piece.
            var running = new int[order + 1];
            for (var i = begin; i < end; i++)
            {
                var (common, length) = (_common[i], _lengths[i]);
                for (var n = common + 1; n <= length; n++)
                {
                    Flush(n);
                    var node = next[n]++;
                    ids[node] = text[positions[i], n - 1];
                    if (n < order)
                    {
                        firstChild[node] = next[n + 1];
                    }
                }

                for (var n = 1; n <= length; n++)
                {
                    running[n]++;
                }
            }

            for (var n = 1; n <= order; n++)
            {
                Flush(n);
            }

            void Flush(int n)
            {
                if (running[n] > 0)
                {
                    Interlocked.Add(ref counts[next[n] - 1], running[n]);
                    running[n] = 0;
                }
            }
        }
    }
}
