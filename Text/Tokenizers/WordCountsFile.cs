using System.Buffers;

namespace LlmPipeline.Text;

/// <summary>
/// Word counts as a file: the 8 bytes "wcounts1"; the number of words; each word, ascending by its bytes, as the number of first bytes it
/// shares with the one before, the number of further bytes, these bytes, and its count; and last the sum of all counts. Numbers are LEB128.
/// </summary>
internal static class WordCountsFile
{
    private const int MaxWordBytes = 1 << 30;
    private const int BufferBytes = 1 << 16;

    private static ReadOnlySpan<byte> Magic => "wcounts1"u8;

    public static void Write(WordCounts counts, Stream stream)
    {
        var order = new int[counts.DistinctCount];
        for (var i = 0; i < order.Length; i++)
        {
            order[i] = i;
        }

        order.AsSpan().Sort((a, b) => counts.WordAt(a).SequenceCompareTo(counts.WordAt(b)));
        var buffered = new BufferedStream(stream, BufferBytes);
        buffered.Write(Magic);
        WriteNumber(buffered, (ulong)order.Length);
        ReadOnlySpan<byte> previous = [];
        foreach (var index in order)
        {
            var word = counts.WordAt(index);
            var shared = previous.CommonPrefixLength(word);
            WriteNumber(buffered, (ulong)shared);
            WriteNumber(buffered, (ulong)(word.Length - shared));
            buffered.Write(word[shared..]);
            WriteNumber(buffered, (ulong)counts.CountAt(index));
            previous = word;
        }

        WriteNumber(buffered, (ulong)counts.TotalCount);
        buffered.Flush();
    }

    public static WordCounts Read(Stream stream)
    {
        var reader = new Reader(stream);
        reader.ReadMagic();
        var words = reader.ReadNumber(int.MaxValue, "the number of words");
        var counts = new WordCounts();
        var word = new ArrayBufferWriter<byte>();
        for (ulong n = 0; n < words; n++)
        {
            ReadWord(reader, counts, word);
        }

        if (reader.ReadNumber(long.MaxValue, "the sum of the counts") != (ulong)counts.TotalCount)
        {
            throw reader.Error($"the sum of the counts is not {counts.TotalCount}");
        }

        reader.RequireEnd();
        return counts;
    }

    private static void ReadWord(Reader reader, WordCounts counts, ArrayBufferWriter<byte> word)
    {
        var previousLength = word.WrittenCount;
        var shared = (int)reader.ReadNumber((ulong)previousLength, "the bytes shared with the word before");
        var further = (int)reader.ReadNumber(MaxWordBytes, "the length of a word");
        var previousNext = shared < previousLength ? word.WrittenSpan[shared] : -1;
        Truncate(word, shared);
        reader.ReadBytes(word, further);
        if (further == 0 || word.WrittenSpan[shared] <= previousNext)
        {
            throw reader.Error("a word does not follow the one before it");
        }

        var count = reader.ReadNumber(long.MaxValue, "a count");
        if (count == 0 || count > (ulong)((long.MaxValue - counts.TotalBytes) / word.WrittenCount))
        {
            throw reader.Error("a count is 0, or their sum too large");
        }

        counts.AddWord(word.WrittenSpan, (long)count);
    }

    private static void Truncate(ArrayBufferWriter<byte> word, int length)
    {
        var kept = word.WrittenSpan[..length].ToArray();
        word.ResetWrittenCount();
        word.Write(kept);
    }

    private static void WriteNumber(Stream stream, ulong value)
    {
        while (value >= 0x80)
        {
            stream.WriteByte((byte)(value | 0x80));
            value >>= 7;
        }

        stream.WriteByte((byte)value);
    }

    /// <summary>Reads with an eye on the end.</summary>
    private sealed class Reader(Stream stream)
    {
        private readonly byte[] _buffer = new byte[BufferBytes];
        private int _read;
        private int _filled;
        private long _offset;

        public InvalidDataException Error(string what) => new($"Word counts cannot be used: {what}, at offset {_offset + _read}. Count the words again.");

        public void ReadMagic()
        {
            foreach (var expected in Magic)
            {
                if (ReadByte("the first 8 bytes") != expected)
                {
                    throw Error("the file does not begin with \"wcounts1\"");
                }
            }
        }

        public ulong ReadNumber(ulong max, string what)
        {
            ulong value = 0;
            for (var shift = 0; shift < 64; shift += 7)
            {
                var next = ReadByte(what);
                value |= (ulong)(next & 0x7F) << shift;
                if (next < 0x80)
                {
                    return value <= max && (shift < 63 || next < 2) ? value : throw Error($"{what} is larger than {max}");
                }
            }

            throw Error($"{what} is no number");
        }

        public void ReadBytes(ArrayBufferWriter<byte> target, int count)
        {
            // In steps, so that a wrong length fails at the end of the file and not for want of memory.
            while (count > 0)
            {
                if (_read == _filled && !Fill())
                {
                    throw Error("the file ends within a word");
                }

                var step = Math.Min(count, _filled - _read);
                target.Write(_buffer.AsSpan(_read, step));
                _read += step;
                count -= step;
            }
        }

        public void RequireEnd()
        {
            if (_read < _filled || Fill())
            {
                throw Error("something follows the counts");
            }
        }

        private byte ReadByte(string what) => _read < _filled || Fill() ? _buffer[_read++] : throw Error($"the file ends before {what}");

        private bool Fill()
        {
            _offset += _filled;
            (_read, _filled) = (0, stream.Read(_buffer));
            return _filled > 0;
        }
    }
}
