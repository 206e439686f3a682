namespace LlmPipeline.Text.Cleaning;

/// <summary>Compares the documents of a bucket with each other.</summary>
internal sealed class Bucket(LshBands bands, SignatureStore signatures)
{
    /// <summary>
    /// Documents of a bucket that later ones are compared with: work stays linear, and memory small, when very many documents share a
    /// band and are no duplicates.
    /// </summary>
    public const int MaxCompared = 1024;

    // Documents of this bucket, and where their signatures are; the groups of them hold one kind each.
    private readonly List<ushort[]> _known = [];
    private readonly List<List<(int Document, int Slot)>> _groups = [];
    private readonly ushort[] _current = new ushort[DocumentSigner.Permutations];

    /// <summary>Joins the kinds of similar documents.</summary>
    /// <param name="documents">In order.</param>
    /// <param name="kinds">Kinds of all documents. Those of one kind are not compared.</param>
    public void Join(List<int> documents, DisjointSets kinds)
    {
        _groups.Clear();
        var used = 0;
        foreach (var document in documents)
        {
            signatures.Read(document, _current);
            var own = GroupOf(document, kinds);
            if (used == MaxCompared)
            {
                continue;
            }

            if (own.Count == 0)
            {
                _groups.Add(own);
            }

            if (used == _known.Count)
            {
                _known.Add(new ushort[DocumentSigner.Permutations]);
            }

            _current.CopyTo(_known[used], 0);
            own.Add((document, used++));
        }
    }

    // The group of a document's kind, after it was joined with all that it is similar to.
    private List<(int Document, int Slot)> GroupOf(int document, DisjointSets kinds)
    {
        List<(int, int)>? own = null;
        for (var i = 0; i < _groups.Count; i++)
        {
            var group = _groups[i];
            if (kinds.First(group[0].Document) != kinds.First(document))
            {
                if (!group.Exists(member => bands.AreSimilar(_known[member.Slot], _current)))
                {
                    continue;
                }

                kinds.Join(group[0].Document, document);
            }

            if (own is null)
            {
                own = group;
            }
            else
            {
                own.AddRange(group);
                _groups.RemoveAt(i--);
            }
        }

        return own ?? [];
    }
}
