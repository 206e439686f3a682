using System.Buffers.Binary;

namespace LlmPipeline.Text.Cleaning;

/// <summary>What is remembered of a document to find its duplicates and its split.</summary>
/// <param name="Exact">First half of the SHA-256 of the text: equal texts are duplicates.</param>
/// <param name="SplitPosition">0 to 1, exclusive, uniform, from another part of that hash.</param>
/// <param name="MinHash">
/// <see cref="DocumentSigner.Permutations"/> values, whose share of equal ones estimates the Jaccard similarity of two documents. Empty
/// where near-duplicates are not looked for, and for a text without a word.
/// </param>
public readonly record struct DocumentSignature(UInt128 Exact, double SplitPosition, ReadOnlyMemory<ushort> MinHash)
{
    /// <summary>Most bytes that a signature takes.</summary>
    public const int MaxByteLength = ShortLength + (DocumentSigner.Permutations * sizeof(ushort));

    private const int ShortLength = 25;

    /// <summary>Bytes that this signature takes.</summary>
    public int ByteLength => ShortLength + (MinHash.Length * sizeof(ushort));

    /// <summary>Writes <see cref="ByteLength"/> bytes.</summary>
    public void WriteTo(Span<byte> destination)
    {
        destination[0] = MinHash.IsEmpty ? (byte)0 : (byte)1;
        BinaryPrimitives.WriteUInt128LittleEndian(destination[1..], Exact);
        BinaryPrimitives.WriteDoubleLittleEndian(destination[17..], SplitPosition);
        var values = MinHash.Span;
        for (var i = 0; i < values.Length; i++)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(destination[(ShortLength + (i * sizeof(ushort)))..], values[i]);
        }
    }

    /// <summary>Reads what <see cref="WriteTo"/> wrote.</summary>
    /// <param name="source">Begins with a signature; what follows it is not looked at.</param>
    /// <exception cref="InvalidDataException">It does not begin with one.</exception>
    public static DocumentSignature Read(ReadOnlySpan<byte> source)
    {
        if (source.Length < ShortLength || source[0] > 1 || (source[0] == 1 && source.Length < MaxByteLength))
        {
            throw new InvalidDataException($"{source.Length} bytes do not hold the signature of a document; it takes {ShortLength} or {MaxByteLength}, and begins with 0 or 1.");
        }

        var values = source[0] == 0 ? [] : new ushort[DocumentSigner.Permutations];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = BinaryPrimitives.ReadUInt16LittleEndian(source[(ShortLength + (i * sizeof(ushort)))..]);
        }

        return new DocumentSignature(BinaryPrimitives.ReadUInt128LittleEndian(source[1..]), BinaryPrimitives.ReadDoubleLittleEndian(source[17..]), values);
    }

    /// <inheritdoc/>
    public bool Equals(DocumentSignature other) =>
        Exact == other.Exact && SplitPosition == other.SplitPosition && MinHash.Span.SequenceEqual(other.MinHash.Span);

    /// <inheritdoc/>
    public override int GetHashCode() => Exact.GetHashCode();
}
