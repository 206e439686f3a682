namespace LlmPipeline.Text.NGrams;

/// <summary>
/// The n-grams of a text as a sorted trie in flat arrays. Node 0 is the empty n-gram; then come all 1-grams, all 2-grams, ...,
/// each order sorted by ids. A node is its parent (the n-gram without its last id) and that last id; its children stand
/// together. The suffix of a node is the n-gram without its first id: in a text, the shorter context.
/// </summary>
internal sealed class NgramTrie
{
    private readonly int[] _ofId;

    /// <summary>Takes the arrays over and finds the suffixes.</summary>
    /// <param name="vocabularySize">Number of ids.</param>
    /// <param name="orderStart">First node of each order from 0 on, and the number of nodes.</param>
    /// <param name="ids">Last id of each node.</param>
    /// <param name="firstChild">First child of each node below the longest order, and the number of nodes.</param>
    /// <param name="cancellationToken">Ends the search.</param>
    /// <exception cref="InvalidDataException">An n-gram is there without its ending, which no text gives.</exception>
    public NgramTrie(int vocabularySize, int[] orderStart, int[] ids, int[] firstChild, CancellationToken cancellationToken)
    {
        (VocabularySize, OrderStart, Ids, FirstChild) = (vocabularySize, orderStart, ids, firstChild);
        Suffixes = new int[Count];
        _ofId = new int[vocabularySize];
        Array.Fill(_ofId, -1);
        for (var node = 1; node < orderStart[2]; node++)
        {
            _ofId[ids[node]] = node;
        }

        for (var order = 2; order <= Order; order++)
        {
            ParallelRanges.Run(orderStart[order - 1], orderStart[order], FindSuffixes, cancellationToken);
        }
    }

    /// <summary>Number of ids.</summary>
    public int VocabularySize { get; }

    /// <summary>Longest n-gram.</summary>
    public int Order => OrderStart.Length - 2;

    /// <summary>Number of nodes, the root included.</summary>
    public int Count => OrderStart[^1];

    /// <summary>Number of nodes that may have children: the contexts.</summary>
    public int ContextCount => OrderStart[^2];

    /// <summary>First node of each order from 0 on, and the number of nodes.</summary>
    public int[] OrderStart { get; }

    /// <summary>Last id of each node.</summary>
    public int[] Ids { get; }

    /// <summary>First child of each context; the children of the next context follow.</summary>
    public int[] FirstChild { get; }

    /// <summary>The n-gram without its first id, by node.</summary>
    public int[] Suffixes { get; }

    /// <summary>Whether a context was followed by something.</summary>
    public bool HasChildren(int context) => FirstChild[context] < FirstChild[context + 1];

    /// <summary>The child of a context by its id, or -1.</summary>
    public int Find(int context, int id) => context == 0 ? _ofId[id] : Find(FirstChild[context], FirstChild[context + 1], id);

    // The nodes of a range are sorted by id.
    private int Find(int begin, int end, int id)
    {
        while (end - begin > 8)
        {
            var middle = (int)(((uint)begin + (uint)end) / 2);
            (begin, end) = Ids[middle] <= id ? (middle, end) : (begin, middle);
        }

        for (var node = begin; node < end; node++)
        {
            if (Ids[node] == id)
            {
                return node;
            }
        }

        return -1;
    }

    private void FindSuffixes(int begin, int end)
    {
        for (var parent = begin; parent < end; parent++)
        {
            var shorter = Suffixes[parent];
            for (var node = FirstChild[parent]; node < FirstChild[parent + 1]; node++)
            {
                var suffix = Find(shorter, Ids[node]);
                Suffixes[node] = suffix >= 0 ? suffix : throw new InvalidDataException($"n-gram {node} is there without its ending.");
            }
        }
    }
}
