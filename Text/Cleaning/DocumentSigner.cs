using System.Buffers.Binary;
using System.Security.Cryptography;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// Computes signatures. Near-duplicates are told by MinHash (Broder 1997) over the set of a text's word 5-grams; of a text with fewer
/// words, all of them are its one n-gram. Safe for several threads.
/// </summary>
public sealed class DocumentSigner(DuplicateOptions options)
{
    /// <summary>Values of a MinHash signature.</summary>
    public const int Permutations = 128;

    /// <summary>Words of an n-gram.</summary>
    public const int NgramWords = 5;

    private readonly bool _near = options.Near != NearDuplicateMode.Off;

    /// <summary>The signature of a document.</summary>
    /// <param name="utf8">Its cleaned text.</param>
    public DocumentSignature Sign(ReadOnlySpan<byte> utf8)
    {
        Span<byte> hash = stackalloc byte[32];
        SHA256.HashData(utf8, hash);
        var position = (BinaryPrimitives.ReadUInt64LittleEndian(hash[16..]) >> 11) * (1.0 / (1L << 53));
        return new DocumentSignature(BinaryPrimitives.ReadUInt128LittleEndian(hash), position, _near ? MinHash(utf8) : default);
    }

    private static ReadOnlyMemory<ushort> MinHash(ReadOnlySpan<byte> utf8)
    {
        var sketch = new MinHashSketch(stackalloc uint[MinHashSketch.ScratchLength]);
        var ngrams = new NgramHash(stackalloc ulong[NgramWords]);
        var words = new WordHashes(utf8);
        while (words.MoveNext())
        {
            ngrams.Add(words.Current);
            if (ngrams.IsFull)
            {
                sketch.Add(ngrams.Value);
            }
        }

        if (ngrams.Words is > 0 and < NgramWords)
        {
            sketch.Add(ngrams.Value);
        }

        return ngrams.Words == 0 ? default : sketch.ToSignature();
    }
}
