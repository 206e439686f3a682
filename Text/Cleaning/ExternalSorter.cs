using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace LlmPipeline.Text.Cleaning;

/// <summary>Sorts any number of records in bounded memory: sorted runs go to a temporary file and are merged.</summary>
/// <typeparam name="T">Ordered totally by its bytes' meaning: equal records are interchangeable.</typeparam>
internal sealed class ExternalSorter<T> : IDisposable
    where T : unmanaged, IComparable<T>
{
    private const int FirstCapacity = 1024;

    private readonly string _folder;
    private readonly int _capacity;
    private readonly List<(long Start, long Length)> _runs = [];
    private T[] _records = [];
    private int _count;
    private FileStream? _file;

    /// <param name="folder">Takes the temporary file.</param>
    /// <param name="memoryBytes">Memory for records; while an array grows, the old one counts too.</param>
    public ExternalSorter(string folder, long memoryBytes)
    {
        _folder = folder;
        _capacity = (int)Math.Clamp(memoryBytes * 2 / 3 / Unsafe.SizeOf<T>(), FirstCapacity, Array.MaxLength);
    }

    /// <summary>Whether records lie on disk.</summary>
    public bool IsSpilled => _runs.Count > 0;

    public void Add(T record)
    {
        if (_count == _capacity)
        {
            Spill();
        }
        else if (_count == _records.Length)
        {
            Array.Resize(ref _records, (int)Math.Min(_capacity, Math.Max(FirstCapacity, _records.Length * 2L)));
        }

        _records[_count++] = record;
    }

    /// <summary>All records in order; to be called once, after the last was added.</summary>
    public IEnumerable<T> Sorted()
    {
        if (!IsSpilled)
        {
            Array.Sort(_records, 0, _count);
            return _records.Take(_count);
        }

        Spill();
        _records = [];
        return Merge();
    }

    public void Dispose() => _file?.Dispose();

    private void Spill()
    {
        _file ??= ScratchFile.Create(_folder);
        _records.AsSpan(0, _count).Sort();
        _runs.Add((_file.Length, _count));
        _file.Write(MemoryMarshal.AsBytes(_records.AsSpan(0, _count)));
        _file.Flush();
        _count = 0;
    }

    private IEnumerable<T> Merge()
    {
        var perRun = Math.Max(64, _capacity / _runs.Count);
        var readers = _runs.ConvertAll(run => new RunReader(_file!, run.Start, run.Length, (int)Math.Min(perRun, run.Length)));
        var next = new PriorityQueue<RunReader, T>(readers.Count);
        foreach (var reader in readers.Where(r => r.MoveNext()))
        {
            next.Enqueue(reader, reader.Current);
        }

        while (next.TryPeek(out var reader, out var record))
        {
            yield return record;
            if (reader.MoveNext())
            {
                next.DequeueEnqueue(reader, reader.Current);
            }
            else
            {
                next.Dequeue();
            }
        }
    }

    private sealed class RunReader(FileStream file, long start, long length, int bufferLength)
    {
        private readonly T[] _buffer = new T[bufferLength];
        private long _position = start;
        private long _left = length;
        private int _at;
        private int _filled;

        public T Current => _buffer[_at];

        public bool MoveNext()
        {
            if (++_at < _filled)
            {
                return true;
            }

            _at = 0;
            _filled = (int)Math.Min(_buffer.Length, _left);
            var bytes = MemoryMarshal.AsBytes(_buffer.AsSpan(0, _filled));
            ScratchFile.ReadExactly(file, bytes, _position);
            _position += bytes.Length;
            _left -= _filled;
            return _filled > 0;
        }
    }
}

/// <summary>Temporary files that vanish when they are closed.</summary>
internal static class ScratchFile
{
    public static FileStream Create(string folder)
    {
        Directory.CreateDirectory(folder);
        return new FileStream(Path.Combine(folder, $"llmpipeline-{Guid.NewGuid():N}.tmp"), FileMode.CreateNew, FileAccess.ReadWrite, FileShare.Delete, 1 << 16, FileOptions.DeleteOnClose);
    }

    /// <summary>Reads at a position, without moving the stream's.</summary>
    public static void ReadExactly(FileStream file, Span<byte> bytes, long position)
    {
        while (!bytes.IsEmpty)
        {
            var read = RandomAccess.Read(file.SafeFileHandle, bytes, position);
            if (read == 0)
            {
                throw new EndOfStreamException($"'{file.Name}' ends at {position}; it was cut while it was in use.");
            }

            bytes = bytes[read..];
            position += read;
        }
    }
}
