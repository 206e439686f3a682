using System.Buffers.Binary;
using System.Runtime.InteropServices;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>Cleaned documents in a temporary file, in source order, so that sources are read once and memory stays bounded.</summary>
internal sealed class DocumentSpool : IDisposable
{
    // Length in bytes (int32), number of characters (int32), split (byte).
    private const int HeaderBytes = 9;
    private const int BatchBytes = 256 << 10;

    private readonly string _path;
    private readonly FileStream _file;

    public DocumentSpool(string folder)
    {
        Directory.CreateDirectory(folder);
        _path = Path.Combine(folder, $"llmpipeline-{Guid.NewGuid():N}.spool");
        _file = new FileStream(_path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.Read | FileShare.Delete, 1 << 16, FileOptions.DeleteOnClose);
    }

    /// <summary>Size of the documents of each split; with a tail split, everything is in the first.</summary>
    public SpoolCounts[] Counts { get; } = [new(), new(), new()];

    public long CharacterCount => Counts.Sum(c => c.Characters);

    public long ByteCount => Counts.Sum(c => c.Bytes);

    public long DocumentCount => Counts.Sum(c => c.Documents);

    public void Append(CleanDocument document, int split)
    {
        Span<byte> header = stackalloc byte[HeaderBytes];
        BinaryPrimitives.WriteInt32LittleEndian(header, document.Utf8.Length);
        BinaryPrimitives.WriteInt32LittleEndian(header[4..], document.CharacterCount);
        header[8] = (byte)split;
        _file.Write(header);
        _file.Write(document.Utf8);
        Counts[split].Add(document);
    }

    /// <summary>Makes everything appended readable.</summary>
    public void Flush() => _file.Flush();

    /// <summary>The parts of documents that lie in a range, in order, in batches of a bounded size (or one big document).</summary>
    public IEnumerable<SpoolBatch> Read(SplitRange range)
    {
        using var file = new FileStream(_path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 1 << 16, FileOptions.SequentialScan);
        var header = new byte[HeaderBytes];
        var batch = new List<SpooledDocument>();
        var batchBytes = 0;
        long character = 0;
        while (file.ReadAtLeast(header, HeaderBytes, throwOnEndOfStream: false) == HeaderBytes)
        {
            var length = BinaryPrimitives.ReadInt32LittleEndian(header);
            var characters = BinaryPrimitives.ReadInt32LittleEndian(header.AsSpan(4));
            var (start, end) = range.Cut(header[8], character, characters);
            character += characters;
            if (start == end)
            {
                file.Seek(length, SeekOrigin.Current);
                continue;
            }

            var bytes = new byte[length];
            file.ReadExactly(bytes);
            var from = Utf8Text.BytesOfCharacters(bytes, start);
            var to = end == characters ? length : from + Utf8Text.BytesOfCharacters(bytes.AsSpan(from), end - start);
            batch.Add(new SpooledDocument(bytes.AsMemory(from, to - from), Ends: end == characters));
            batchBytes += to - from;
            if (batchBytes >= BatchBytes)
            {
                yield return new SpoolBatch([.. batch], batchBytes);
                batch.Clear();
                batchBytes = 0;
            }
        }

        if (batch.Count > 0)
        {
            yield return new SpoolBatch([.. batch], batchBytes);
        }
    }

    public void Dispose() => _file.Dispose();
}

/// <summary>A cleaned document.</summary>
/// <param name="Utf8">Its text.</param>
/// <param name="CharacterCount">Code points.</param>
/// <param name="Hash">First half of the SHA-256 of the text: equal texts are duplicates.</param>
/// <param name="SplitPosition">0 to 1, uniform, from another part of the hash.</param>
internal sealed record CleanDocument(byte[] Utf8, int CharacterCount, UInt128 Hash, double SplitPosition);

/// <summary>Sizes of the documents of a split.</summary>
internal sealed class SpoolCounts
{
    public long Documents { get; private set; }

    public long Bytes { get; private set; }

    public long Characters { get; private set; }

    public void Add(CleanDocument document)
    {
        Documents++;
        Bytes += document.Utf8.Length;
        Characters += document.CharacterCount;
    }
}

/// <summary>A document, or the part of one that lies in a split.</summary>
/// <param name="Utf8">Its text.</param>
/// <param name="Ends">Whether the document ends here, and an end-of-text id follows.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct SpooledDocument(ReadOnlyMemory<byte> Utf8, bool Ends);

/// <summary>Documents that are encoded together.</summary>
internal sealed record SpoolBatch(IReadOnlyList<SpooledDocument> Documents, int Bytes);

/// <summary>What belongs to a split: documents marked with its number, or a range of characters of all text.</summary>
internal readonly record struct SplitRange(int? Split, long StartCharacter, long EndCharacter)
{
    public static SplitRange All => new(null, 0, long.MaxValue);

    /// <summary>The part of a document, in its own characters; empty when it does not belong to the split.</summary>
    public (int Start, int End) Cut(int split, long position, int characters)
    {
        if (Split is { } wanted)
        {
            return wanted == split ? (0, characters) : (0, 0);
        }

        var start = Math.Clamp(StartCharacter - position, 0, characters);
        var end = Math.Clamp(EndCharacter - position, start, characters);
        return ((int)start, (int)end);
    }
}
