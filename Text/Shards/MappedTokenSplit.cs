using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using LlmPipeline.Storage;

namespace LlmPipeline.Text.Shards;

/// <summary>A split whose shards are mapped into memory: opening costs nothing, and the system keeps what is used.</summary>
internal sealed unsafe class MappedTokenSplit : TokenSplit, IDisposable
{
    private readonly SplitProperties _properties;
    private readonly int _bytesPerToken;
    private readonly List<Shard> _shards = [];
    private readonly Lazy<long[]> _documentEnds;

    public MappedTokenSplit(string dataset, string folder, SplitProperties properties, int bytesPerToken)
    {
        _properties = properties;
        _bytesPerToken = bytesPerToken;
        _documentEnds = new Lazy<long[]>(() => ReadDocumentEnds(dataset, Path.Combine(folder, properties.Documents)));
        long tokens = 0;
        foreach (var file in properties.Shards)
        {
            var path = Path.Combine(folder, file);
            var length = new FileInfo(path).Length;
            if (length == 0 || length % bytesPerToken != 0)
            {
                Dispose();
                throw new CorruptDirectoryException($"'{dataset}/{file}' has {length} bytes, which is not a whole number of ids. Delete the dataset and create it again.");
            }

            var map = MemoryMappedFile.CreateFromFile(path, FileMode.Open, mapName: null, capacity: 0, MemoryMappedFileAccess.Read);
            _shards.Add(new Shard(map, map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read), tokens, length / bytesPerToken));
            tokens += length / bytesPerToken;
        }

        if (tokens != properties.TokenCount)
        {
            Dispose();
            throw new CorruptDirectoryException($"The shards of '{dataset}' hold {tokens} ids of split '{properties.Split}'; its manifest says {properties.TokenCount}. Delete the dataset and create it again.");
        }
    }

    public override long TokenCount => _properties.TokenCount;

    public override long ByteCount => _properties.ByteCount;

    public override long DocumentCount => _properties.DocumentCount;

    public override void Read(long position, Span<int> ids)
    {
        if (position < 0 || position > TokenCount - ids.Length)
        {
            throw new ArgumentOutOfRangeException(nameof(position), position,
                $"{ids.Length} ids from {position} on lie outside of split '{_properties.Split}', which has {TokenCount} ids.");
        }

        var index = FindShard(position);
        while (!ids.IsEmpty)
        {
            var shard = _shards[index++];
            var start = position - shard.FirstToken;
            var count = (int)Math.Min(ids.Length, shard.TokenCount - start);
            Copy(shard.View, start, ids[..count]);
            ids = ids[count..];
            position += count;
        }
    }

    public override (long Start, int Length) Document(long index)
    {
        var ends = _documentEnds.Value;
        var start = index == 0 ? 0 : ends[index - 1];
        return (start, checked((int)(ends[index] - start)));
    }

    public void Dispose()
    {
        foreach (var shard in _shards)
        {
            shard.View.Dispose();
            shard.Map.Dispose();
        }
    }

    private long[] ReadDocumentEnds(string dataset, string path)
    {
        var bytes = File.ReadAllBytes(path);
        var ends = new long[bytes.Length / sizeof(ulong)];
        long last = 0;
        for (var i = 0; i < ends.Length; i++)
        {
            ends[i] = BinaryPrimitives.ReadInt64LittleEndian(bytes.AsSpan(i * sizeof(ulong)));
            if (ends[i] <= last || ends[i] > TokenCount)
            {
                throw Damaged();
            }

            last = ends[i];
        }

        return bytes.Length % sizeof(ulong) == 0 && ends.Length == DocumentCount && last <= TokenCount ? ends : throw Damaged();

        CorruptDirectoryException Damaged() => new($"'{dataset}/{_properties.Documents}' does not fit the {TokenCount} ids of the split. Delete the dataset and create it again.");
    }

    private int FindShard(long position)
    {
        var index = 0;
        while (index < _shards.Count - 1 && _shards[index + 1].FirstToken <= position)
        {
            index++;
        }

        return index;
    }

    private void Copy(MemoryMappedViewAccessor view, long start, Span<int> ids)
    {
        // The handle counts its users: a dispose in the meantime waits, and a use after it throws.
        byte* pointer = null;
        var handle = view.SafeMemoryMappedViewHandle;
        handle.AcquirePointer(ref pointer);
        try
        {
            pointer += view.PointerOffset + (start * _bytesPerToken);
            if (_bytesPerToken == sizeof(ushort))
            {
                var packed = new ReadOnlySpan<ushort>(pointer, ids.Length);
                for (var i = 0; i < packed.Length; i++)
                {
                    ids[i] = BitConverter.IsLittleEndian ? packed[i] : BinaryPrimitives.ReverseEndianness(packed[i]);
                }
            }
            else if (BitConverter.IsLittleEndian)
            {
                new ReadOnlySpan<int>(pointer, ids.Length).CopyTo(ids);
            }
            else
            {
                BinaryPrimitives.ReverseEndianness(new ReadOnlySpan<int>(pointer, ids.Length), ids);
            }
        }
        finally
        {
            handle.ReleasePointer();
        }
    }

    [StructLayout(LayoutKind.Auto)]
    private readonly record struct Shard(MemoryMappedFile Map, MemoryMappedViewAccessor View, long FirstToken, long TokenCount);
}
