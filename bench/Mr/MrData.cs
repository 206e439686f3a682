using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using LlmPipeline.Text;

namespace LlmPipeline.Bench.Mr;

/// <summary>A text with its class.</summary>
/// <param name="Text">Words and punctuation in lower case, spaces between them.</param>
/// <param name="Label">0 negative, 1 positive.</param>
internal record LabelledText(string Text, int Label);

/// <summary>A sentence with its class.</summary>
/// <param name="Text">As the file has it, trimmed.</param>
/// <param name="Label">0 negative, 1 positive.</param>
/// <param name="Hash">First 64 bits of the SHA-256 of the text: what folds are made by, so that equal sentences are in one fold.</param>
internal sealed record Sentence(string Text, int Label, ulong Hash) : LabelledText(Text, Label)
{
    public const int Folds = 10;

    public int Fold => (int)(Hash % Folds);

    /// <summary>One of ten in the part that a fold is trained on, to choose the epoch by.</summary>
    public bool IsHeldOut => Hash / 10 % 10 == 0;

    /// <summary>One of ten, where few labels are known.</summary>
    public bool IsAmongFew => Hash / 100 % 10 == 0;
}

/// <summary>The sentence polarity data (Pang and Lee 2005).</summary>
internal static class MrData
{
    public static readonly string[] Labels = ["negative", "positive"];
    private static readonly string[] Endings = ["neg", "pos"];

    public static List<Sentence> Read(string data) =>
    [
        .. Endings.SelectMany((ending, label) => File.ReadLines(Path.Combine(data, "mr-sentence-polarity", $"rt-polarity.{ending}"))
            .Select(l => l.Trim()).Where(l => l.Length > 0)
            .Select(l => new Sentence(l, label, BinaryPrimitives.ReadUInt64LittleEndian(SHA256.HashData(Encoding.UTF8.GetBytes(l)))))),
    ];
}

/// <summary>Ids in memory, with the ends of their documents.</summary>
internal sealed class IdStream : TokenSplit
{
    private readonly int[] _ids;
    private readonly long[] _ends;

    public IdStream(IEnumerable<int[]> documents)
    {
        var (ids, ends) = (new List<int>(), new List<long>());
        foreach (var document in documents)
        {
            ids.AddRange(document);
            ends.Add(ids.Count);
        }

        (_ids, _ends) = ([.. ids], [.. ends]);
    }

    public override long TokenCount => _ids.Length;

    public override long ByteCount => 0;

    public override long DocumentCount => _ends.Length;

    public override void Read(long position, Span<int> ids) => _ids.AsSpan((int)position, ids.Length).CopyTo(ids);

    public override (long Start, int Length) Document(long index)
    {
        var start = index == 0 ? 0 : _ends[index - 1];
        return (start, (int)(_ends[index] - start));
    }
}
