using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// Locality-sensitive hashing of MinHash signatures (Indyk and Motwani 1998): a signature is cut into bands of some rows, and documents
/// that agree in all rows of a band are candidates.
/// </summary>
internal sealed class LshBands
{
    /// <summary>Probability with which documents of exactly the threshold's similarity shall be candidates, at least.</summary>
    public const double Recall = 0.95;

    private readonly int _requiredMatches;

    /// <summary>Chooses the most rows (fewest false candidates) that keep the recall.</summary>
    public LshBands(double threshold)
    {
        if (threshold is not (>= 0.5 and <= 1))
        {
            throw new ArgumentOutOfRangeException(nameof(threshold), threshold, "The threshold of near-duplicates must be 0.5 to 1.");
        }

        Rows = 1;
        for (var rows = 2; rows <= DocumentSigner.Permutations; rows++)
        {
            Rows = CandidateProbability(threshold, rows, DocumentSigner.Permutations / rows) >= Recall ? rows : Rows;
        }

        Bands = DocumentSigner.Permutations / Rows;
        _requiredMatches = (int)Math.Ceiling((DocumentSigner.Permutations * threshold) - 1e-9);
    }

    /// <summary>Values in a band.</summary>
    public int Rows { get; }

    /// <summary>Bands of a signature.</summary>
    public int Bands { get; }

    /// <summary>The S-curve: how likely two documents of this similarity are candidates, 1 - (1 - s^rows)^bands.</summary>
    public double CandidateProbability(double similarity) => CandidateProbability(similarity, Rows, Bands);

    /// <summary>The key of a band: equal for candidates, and different for different bands.</summary>
    public ulong Key(ReadOnlySpan<ushort> signature, int band)
    {
        var key = (ulong)band + 1;
        foreach (var value in signature.Slice(band * Rows, Rows))
        {
            key = Hashing.Mix((key * 0x9E3779B97F4A7C15) + value);
        }

        return key;
    }

    /// <summary>Whether the estimated similarity, the share of equal values, reaches the threshold.</summary>
    public bool AreSimilar(ReadOnlySpan<ushort> left, ReadOnlySpan<ushort> right)
    {
        ref var l = ref MemoryMarshal.GetReference(left);
        ref var r = ref MemoryMarshal.GetReference(right);
        var matches = 0;
        for (nuint at = 0; at < DocumentSigner.Permutations; at += 32)
        {
            matches += System.Numerics.BitOperations.PopCount(Vector512.Equals(Vector512.LoadUnsafe(ref l, at), Vector512.LoadUnsafe(ref r, at)).ExtractMostSignificantBits());
        }

        return matches >= _requiredMatches;
    }

    private static double CandidateProbability(double similarity, int rows, int bands) => 1 - Math.Pow(1 - Math.Pow(similarity, rows), bands);
}
