using System.Buffers.Binary;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>
/// SentencePiece's normalization table: a double-array trie from UTF-8 to what replaces it, the longest match first
/// (google/sentencepiece, normalizer.cc).
/// </summary>
internal sealed class PrecompiledNormalizer : Normalizer
{
    private readonly uint[] _units;
    private readonly byte[] _replacements;

    /// <param name="table">Length of the trie in bytes (uint32), the trie, replacements ended by NUL.</param>
    /// <exception cref="InvalidDataException">The table is not one.</exception>
    public PrecompiledNormalizer(ReadOnlySpan<byte> table)
    {
        if (table.Length < 4 || BinaryPrimitives.ReadUInt32LittleEndian(table) is var size && (size % 4 != 0 || size > table.Length - 4))
        {
            throw new InvalidDataException("is not a normalization table: the length of its trie does not fit.");
        }

        _units = new uint[size / 4];
        for (var i = 0; i < _units.Length; i++)
        {
            _units[i] = BinaryPrimitives.ReadUInt32LittleEndian(table[(4 + (4 * i))..]);
        }

        _replacements = table[(4 + (int)size)..].ToArray();
    }

    public override AlignedText Apply(AlignedText text)
    {
        var utf8 = new byte[Encoding.UTF8.GetMaxByteCount(text.Length)];
        var charOf = new int[utf8.Length + 1]; // char index of the first byte of each code point
        var length = 0;
        for (var i = 0; i < text.Length;)
        {
            Rune.DecodeFromUtf16(text.Span[i..], out var rune, out var chars);
            var written = rune.EncodeToUtf8(utf8.AsSpan(length));
            Array.Fill(charOf, i, length, written);
            length += written;
            i += chars;
        }

        charOf[length] = text.Length;
        var builder = new AlignedTextBuilder(text.Length);
        for (var at = 0; at < length;)
        {
            var start = charOf[at];
            if (LongestMatch(utf8.AsSpan(at, length - at), out var matched) is { } replacement && (at + matched == length || charOf[at + matched] != charOf[at + matched - 1]))
            {
                builder.Append(replacement, text.BeginOf(start), text.EndOf(charOf[at + matched] - 1));
                at += matched;
                continue;
            }

            Rune.DecodeFromUtf8(utf8.AsSpan(at, length - at), out _, out var bytes);
            builder.Append(text, start, charOf[at + bytes] - start);
            at += bytes;
        }

        return builder.ToText();
    }

    // Units as in darts-clone: offset in bits 10 to 30 (shifted by bit 9), a leaf's flag in bit 8, the label in bits 0 to 7.
    private string? LongestMatch(ReadOnlySpan<byte> utf8, out int matched)
    {
        matched = 0;
        if (_units.Length == 0)
        {
            return null;
        }

        var found = -1;
        uint node = Offset(_units[0]);
        for (var i = 0; i < utf8.Length; i++)
        {
            node ^= utf8[i];
            if (node >= _units.Length || (_units[node] & 0x800000FF) != utf8[i])
            {
                break;
            }

            var unit = _units[node];
            node ^= Offset(unit);
            if ((unit & 0x100) != 0 && node < _units.Length)
            {
                (found, matched) = ((int)(_units[node] & 0x7FFFFFFF), i + 1);
            }
        }

        return found < 0 || found >= _replacements.Length ? null : TextAt(found);
    }

    private string TextAt(int position)
    {
        var rest = _replacements.AsSpan(position);
        var end = rest.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? rest : rest[..end]);
    }

    private static uint Offset(uint unit) => (unit >> 10) << (int)((unit & 0x200) >> 6);
}
