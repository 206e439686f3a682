namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// How much of the other splits occurs in train: the share of their different word 13-grams (Brown et al. 2020) that train has too. An
/// n-gram does not go beyond its document. Memory is bounded: of many n-grams, those whose hash ends in some number of zero bits are
/// kept, the same for all splits, so that the share is estimated from a uniform sample; up to <see cref="MaxSample"/> n-grams a split,
/// it is exact. Merging gives the same whatever the order. Not safe for several threads.
/// </summary>
public sealed class NgramOverlap
{
    /// <summary>Words of an n-gram.</summary>
    public const int NgramWords = 13;

    /// <summary>Most n-grams kept of a split.</summary>
    public const int MaxSample = 1 << 18;

    private const int Splits = 3;

    private readonly HashSet<ulong>[] _samples = [[], [], []];
    private readonly int[] _zeroBits = new int[Splits];

    /// <param name="expectedNgrams">
    /// About how many n-grams there will be in all: of very many, most need not be kept until that is known. Those to be merged are made
    /// with the same number.
    /// </param>
    public NgramOverlap(long expectedNgrams = 0) =>
        Array.Fill(_zeroBits, System.Numerics.BitOperations.Log2((ulong)Math.Max(1, expectedNgrams / (8L * MaxSample))));

    /// <summary>Adds a document, or the part of one that is in the split.</summary>
    /// <param name="utf8">Its text.</param>
    /// <param name="split">0 train, 1 validation, 2 test.</param>
    public void Add(ReadOnlySpan<byte> utf8, int split)
    {
        var ngrams = new NgramHash(stackalloc ulong[NgramWords]);
        var words = new WordHashes(utf8);
        while (words.MoveNext())
        {
            ngrams.Add(words.Current);
            if (ngrams.IsFull)
            {
                Add(ngrams.Value, split);
            }
        }
    }

    /// <summary>Adds what another one has seen.</summary>
    public void Merge(NgramOverlap other)
    {
        for (var split = 0; split < Splits; split++)
        {
            Thin(split, other._zeroBits[split]);
            foreach (var hash in other._samples[split])
            {
                Add(hash, split);
            }
        }
    }

    /// <summary>The share of a split's n-grams that train has too.</summary>
    /// <param name="split">1 validation, 2 test.</param>
    public NgramShare Share(int split)
    {
        var zeroBits = Math.Max(_zeroBits[0], _zeroBits[split]);
        var sample = _samples[split].Where(hash => HasZeroBits(hash, zeroBits)).ToList();
        return new NgramShare(sample.Count, sample.Count(_samples[0].Contains), 1L << zeroBits);
    }

    /// <summary>Writes everything, in an order that depends on the content alone.</summary>
    public void Write(Stream stream)
    {
        using var writer = new BinaryWriter(stream, System.Text.Encoding.UTF8, leaveOpen: true);
        for (var split = 0; split < Splits; split++)
        {
            writer.Write((byte)_zeroBits[split]);
            writer.Write(_samples[split].Count);
            foreach (var hash in _samples[split].Order())
            {
                writer.Write(hash);
            }
        }
    }

    /// <summary>Reads what <see cref="Write"/> wrote.</summary>
    /// <exception cref="InvalidDataException">It is something else.</exception>
    public static NgramOverlap Read(Stream stream)
    {
        using var reader = new BinaryReader(stream, System.Text.Encoding.UTF8, leaveOpen: true);
        var overlap = new NgramOverlap();
        for (var split = 0; split < Splits; split++)
        {
            int zeroBits = reader.ReadByte();
            var count = reader.ReadInt32();
            if (zeroBits > 63 || count is < 0 or > MaxSample)
            {
                throw new InvalidDataException($"A sample of n-grams has {zeroBits} zero bits and {count} n-grams; at most 63 and {MaxSample} are possible.");
            }

            overlap._zeroBits[split] = zeroBits;
            for (var i = 0; i < count; i++)
            {
                overlap._samples[split].Add(reader.ReadUInt64());
            }
        }

        return overlap;
    }

    private static bool HasZeroBits(ulong hash, int bits) => (hash & ((1UL << bits) - 1)) == 0;

    private void Add(ulong hash, int split)
    {
        if (HasZeroBits(hash, _zeroBits[split]) && _samples[split].Add(hash) && _samples[split].Count > MaxSample)
        {
            Thin(split, _zeroBits[split] + 1);
        }
    }

    private void Thin(int split, int zeroBits)
    {
        if (zeroBits <= _zeroBits[split])
        {
            return;
        }

        _samples[split].RemoveWhere(hash => !HasZeroBits(hash, zeroBits));
        _zeroBits[split] = zeroBits;
        if (_samples[split].Count > MaxSample)
        {
            Thin(split, zeroBits + 1);
        }
    }
}

/// <summary>A share of n-grams.</summary>
/// <param name="Ngrams">Different n-grams of the split that were looked at.</param>
/// <param name="InTrain">Those of them that train has.</param>
/// <param name="SampledOneIn">1 when all were looked at; otherwise one in so many was.</param>
public sealed record NgramShare(long Ngrams, long InTrain, long SampledOneIn)
{
    /// <summary>0 to 1; 0 when there are none.</summary>
    public double Share => Ngrams == 0 ? 0 : (double)InTrain / Ngrams;
}
