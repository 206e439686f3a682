using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// The smallest value of a set of hashes under each of <see cref="DocumentSigner.Permutations"/> permutations. A permutation is
/// multiply-add modulo 2^32 (Dietzfelbinger 1996) of a mixed hash. Values are kept to 16 bits (Li and Koenig 2010): different ones
/// look equal once in 65,536.
/// </summary>
internal ref struct MinHashSketch
{
    /// <summary>Scratch space that a sketch needs.</summary>
    public const int ScratchLength = DocumentSigner.Permutations + Batch;

    private const int Batch = 256;

    private static readonly uint[] Multipliers = Constants(0, 1);
    private static readonly uint[] Addends = Constants(DocumentSigner.Permutations, 0);

    private readonly Span<uint> _minima;
    private readonly Span<uint> _pending;
    private int _count;

    public MinHashSketch(Span<uint> scratch)
    {
        _minima = scratch[..DocumentSigner.Permutations];
        _pending = scratch[DocumentSigner.Permutations..];
        _minima.Fill(uint.MaxValue);
    }

    /// <summary>Adds a member of the set; once or often is the same.</summary>
    public void Add(ulong hash)
    {
        _pending[_count++] = (uint)(hash >> 32);
        if (_count == Batch)
        {
            Flush();
        }
    }

    public ushort[] ToSignature()
    {
        Flush();
        var signature = new ushort[DocumentSigner.Permutations];
        for (var i = 0; i < signature.Length; i++)
        {
            // The leading bits of a minimum are nearly always 0: mix before cutting.
            signature[i] = (ushort)(Hashing.Mix(_minima[i]) >> 48);
        }

        return signature;
    }

    // Four vectors of permutations at a time stay in registers while the hashes stream past.
    private void Flush()
    {
        var pending = _pending[.._count];
        ref var multipliers = ref MemoryMarshal.GetArrayDataReference(Multipliers);
        ref var addends = ref MemoryMarshal.GetArrayDataReference(Addends);
        ref var minima = ref MemoryMarshal.GetReference(_minima);
        const int width = 16;
        for (nuint at = 0; at < DocumentSigner.Permutations; at += 4 * width)
        {
            var (m0, m1, m2, m3) = (Load(ref multipliers, at), Load(ref multipliers, at + width), Load(ref multipliers, at + (2 * width)), Load(ref multipliers, at + (3 * width)));
            var (a0, a1, a2, a3) = (Load(ref addends, at), Load(ref addends, at + width), Load(ref addends, at + (2 * width)), Load(ref addends, at + (3 * width)));
            var (v0, v1, v2, v3) = (Load(ref minima, at), Load(ref minima, at + width), Load(ref minima, at + (2 * width)), Load(ref minima, at + (3 * width)));
            foreach (var hash in pending)
            {
                var x = Vector512.Create(hash);
                v0 = Vector512.Min(v0, (m0 * x) + a0);
                v1 = Vector512.Min(v1, (m1 * x) + a1);
                v2 = Vector512.Min(v2, (m2 * x) + a2);
                v3 = Vector512.Min(v3, (m3 * x) + a3);
            }

            v0.StoreUnsafe(ref minima, at);
            v1.StoreUnsafe(ref minima, at + width);
            v2.StoreUnsafe(ref minima, at + (2 * width));
            v3.StoreUnsafe(ref minima, at + (3 * width));
        }

        _count = 0;

        static Vector512<uint> Load(ref uint values, nuint at) => Vector512.LoadUnsafe(ref values, at);
    }

    private static uint[] Constants(int first, uint bits) =>
        [.. Enumerable.Range(first + 1, DocumentSigner.Permutations).Select(i => (uint)(Hashing.Mix((ulong)i * 0x9E3779B97F4A7C15) >> 32) | bits)];
}
