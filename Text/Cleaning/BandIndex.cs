using System.Collections;

namespace LlmPipeline.Text.Cleaning;

/// <summary>The bands of signatures, sorted by key, and the signatures themselves, to check candidates by.</summary>
internal sealed class BandIndex(double threshold, string folder, long memoryBytes) : IDisposable
{
    private readonly LshBands _bands = new(threshold);
    private readonly ExternalSorter<BandRecord> _records = new(folder, memoryBytes / 2);
    private readonly SignatureStore _signatures = new(folder, memoryBytes / 2);
    private readonly ushort[] _none = new ushort[DocumentSigner.Permutations];

    public bool IsSpilled => _records.IsSpilled || _signatures.IsSpilled;

    /// <summary>Adds a document, in order; one without words is similar to none.</summary>
    public void Add(int document, ReadOnlySpan<ushort> signature)
    {
        _signatures.Add(signature.IsEmpty ? _none : signature);
        for (var band = 0; band < _bands.Bands && !signature.IsEmpty; band++)
        {
            _records.Add(new BandRecord(_bands.Key(signature, band), document));
        }
    }

    /// <summary>Joins the kinds of similar documents; those marked as copies of others are left out.</summary>
    public void JoinSimilar(DisjointSets kinds, BitArray copies, CancellationToken cancellationToken)
    {
        var bucket = new Bucket(_bands, _signatures);
        foreach (var documents in Buckets(copies))
        {
            cancellationToken.ThrowIfCancellationRequested();
            bucket.Join(documents, kinds);
        }
    }

    public void Dispose()
    {
        _records.Dispose();
        _signatures.Dispose();
    }

    // Documents that share a band, in order; a list is overwritten by the next.
    private IEnumerable<List<int>> Buckets(BitArray copies)
    {
        _signatures.Flush();
        var documents = new List<int>();
        ulong key = 0;
        foreach (var record in _records.Sorted())
        {
            if (record.Key != key)
            {
                if (documents.Count > 1)
                {
                    yield return documents;
                }

                documents.Clear();
                key = record.Key;
            }

            if (!copies[record.Document])
            {
                documents.Add(record.Document);
            }
        }

        if (documents.Count > 1)
        {
            yield return documents;
        }
    }

    private readonly record struct BandRecord(ulong Key, int Document) : IComparable<BandRecord>
    {
        public int CompareTo(BandRecord other)
        {
            var order = Key.CompareTo(other.Key);
            return order != 0 ? order : Document.CompareTo(other.Document);
        }
    }
}
