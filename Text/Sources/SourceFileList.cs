using System.Collections;
using System.Text;

namespace LlmPipeline.Text.Sources;

/// <summary>
/// Files in some 50 bytes each: a million of them is not worth a million objects. Entries are made when they are asked for, so
/// two reads of one place give equal, not identical, files.
/// </summary>
internal sealed class SourceFileList : IReadOnlyList<SourceFile>
{
    private const int BlockBytes = 1 << 20;

    private readonly List<string> _folders = [];
    private readonly List<byte[]> _names = [];
    private readonly List<Entry> _entries = [];
    private readonly Dictionary<int, string> _identities = [];
    private int _used = BlockBytes;

    public int Count => _entries.Count;

    public SourceFile this[int index]
    {
        get
        {
            var entry = _entries[index];
            var name = Encoding.UTF8.GetString(_names[entry.Block].AsSpan(entry.Offset, entry.NameLength));
            return new SourceFile(
                _folders[entry.Folder] + name, entry.Length, new DateTime(entry.Ticks, DateTimeKind.Utc), entry.Format, entry.Compression, _identities.GetValueOrDefault(index));
        }
    }

    public void Add(SourceFile file)
    {
        var split = file.Path.AsSpan().LastIndexOfAny('/', '\\') + 1;
        Add(file.Path.AsSpan(0, split), file.Path.AsSpan(split), file.Length, file.Modified.Ticks, file.Format, file.Compression);
        if (file.Identity is not null)
        {
            _identities.Add(_entries.Count - 1, file.Identity);
        }
    }

    /// <summary>Adds a local file; files of one folder should follow each other.</summary>
    /// <param name="folder">Its folder, with the separator at the end.</param>
    /// <param name="name">Its name.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="ticks">Time of the last change, UTC.</param>
    /// <param name="format">How documents lie in it.</param>
    /// <param name="compression">How it is compressed.</param>
    public void Add(ReadOnlySpan<char> folder, ReadOnlySpan<char> name, long length, long ticks, SourceFormat format, SourceCompression compression)
    {
        if (_folders.Count == 0 || !folder.SequenceEqual(_folders[^1]))
        {
            _folders.Add(folder.ToString());
        }

        var bytes = Encoding.UTF8.GetByteCount(name);
        if (_used + bytes > BlockBytes)
        {
            _names.Add(new byte[Math.Max(bytes, BlockBytes)]);
            _used = 0;
        }

        Encoding.UTF8.GetBytes(name, _names[^1].AsSpan(_used));
        _entries.Add(new Entry(length, ticks, _names.Count - 1, _used, bytes, _folders.Count - 1, format, compression));
        _used += bytes;
    }

    public IEnumerator<SourceFile> GetEnumerator()
    {
        for (var i = 0; i < Count; i++)
        {
            yield return this[i];
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private readonly struct Entry(long length, long ticks, int block, int offset, int nameLength, int folder, SourceFormat format, SourceCompression compression)
    {
        private readonly byte _format = (byte)format;
        private readonly byte _compression = (byte)compression;

        public long Length { get; } = length;

        public long Ticks { get; } = ticks;

        public int Block { get; } = block;

        public int Offset { get; } = offset;

        public int NameLength { get; } = nameLength;

        public int Folder { get; } = folder;

        public SourceFormat Format => (SourceFormat)_format;

        public SourceCompression Compression => (SourceCompression)_compression;
    }
}
