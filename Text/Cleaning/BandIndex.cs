using System.Collections;

namespace LlmPipeline.Text.Cleaning;

/// <summary>The bands of signatures, sorted by key, and the signatures themselves, to check candidates by.</summary>
internal sealed class BandIndex(double threshold, string folder, long memoryBytes) : IDisposable
{
    private readonly ExternalSorter<BandRecord> _records = new(folder, memoryBytes / 2);
    private readonly ushort[] _none = new ushort[DocumentSigner.Permutations];

    public LshBands Bands { get; } = new(threshold);

    public SignatureStore Signatures { get; } = new(folder, memoryBytes / 2);

    public bool IsSpilled => _records.IsSpilled || Signatures.IsSpilled;

    /// <summary>Adds a document, in order; one without words is similar to none.</summary>
    public void Add(int document, ReadOnlySpan<ushort> signature)
    {
        Signatures.Add(signature.IsEmpty ? _none : signature);
        for (var band = 0; band < Bands.Bands && !signature.IsEmpty; band++)
        {
            _records.Add(new BandRecord(Bands.Key(signature, band), document));
        }
    }

    /// <summary>Joins the kinds of similar documents; those marked as copies of others are left out.</summary>
    public void JoinSimilar(DisjointSets kinds, BitArray copies, CancellationToken cancellationToken)
    {
        var bucket = new Bucket(Bands, Signatures);
        foreach (var documents in Buckets(copies))
        {
            cancellationToken.ThrowIfCancellationRequested();
            bucket.Join(documents, kinds);
        }
    }

    public void Dispose()
    {
        _records.Dispose();
        Signatures.Dispose();
    }

    /// <summary>Documents that share a band, in order; a list is overwritten by the next. To be called once.</summary>
    /// <param name="copies">Documents to leave out.</param>
    public IEnumerable<List<int>> Buckets(BitArray copies)
    {
        Signatures.Flush();
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
