using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace LlmPipeline.Text.NGrams;

/// <summary>
/// Counts as a file, about 4 bytes an n-gram; <c>docs/formats.md</c> describes it. It ends with the SHA-256 of all before, and
/// what is read is checked: a file that is cut, changed or made up is refused, and takes no more memory than its length allows.
/// </summary>
internal static class NgramFile
{
    private const int BufferLength = 1 << 18;
    private const int SmallestNode = 2;

    private static ReadOnlySpan<byte> Magic => "ngrams/1"u8;

    /// <summary>Writes counts.</summary>
    public static void Write(Stream stream, NgramCounts counts, CancellationToken cancellationToken)
    {
        var output = new Output(stream);
        output.Bytes(Magic);
        output.Int32(counts.Order);
        output.Int32(counts.VocabularySize);
        output.Int32(counts.EndOfTextId);
        var trie = counts.Trie;
        for (var order = 1; order <= counts.Order; order++)
        {
            output.Int32(trie.OrderStart[order + 1] - trie.OrderStart[order]);
        }

        for (var context = 0; context < trie.ContextCount; context++)
        {
            if ((context & 0xFFFF) == 0)
            {
                cancellationToken.ThrowIfCancellationRequested();
            }

            var (begin, end) = (trie.FirstChild[context], trie.FirstChild[context + 1]);
            output.Number(end - begin);
            for (var node = begin; node < end; node++)
            {
                output.Number(trie.Ids[node] - (node == begin ? 0 : trie.Ids[node - 1] + 1));
                output.Number(counts.Counts[node]);
            }
        }

        output.Finish();
    }

    /// <summary>Reads counts.</summary>
    /// <exception cref="InvalidDataException">The file is not one of counts; the message says where.</exception>
    public static NgramCounts Read(string path, CancellationToken cancellationToken)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1);
        var input = new Input(file, path);
        if (!input.Bytes(Magic.Length).SequenceEqual(Magic))
        {
            throw new InvalidDataException($"'{path}' is not a file of n-gram counts: it does not begin with '{Encoding.ASCII.GetString(Magic)}'.");
        }

        var order = input.Int32("the order", 1, NgramOptions.MaxOrder);
        var vocabularySize = input.Int32("the vocabulary size", 1, 1 << 24);
        var endOfTextId = input.Int32("the end-of-text id", 0, vocabularySize - 1);
        var orderStart = new int[order + 2];
        orderStart[1] = 1;
        for (var n = 1; n <= order; n++)
        {
            var most = Math.Min(int.MaxValue - 1 - orderStart[n], file.Length / SmallestNode);
            orderStart[n + 1] = orderStart[n] + input.Int32($"the number of {n}-grams", n == 1 ? 1 : 0, (int)Math.Min(most, n == 1 ? vocabularySize : most));
        }

        if (orderStart[^1] > file.Length / SmallestNode)
        {
            throw input.Wrong($"{orderStart[^1]} n-grams do not fit into {file.Length} bytes");
        }

        var ids = new int[orderStart[^1]];
        var counts = new int[ids.Length];
        var firstChild = new int[orderStart[order] + 1];
        var next = 1;
        for (var context = 0; context < firstChild.Length - 1; context++)
        {
            if ((context & 0xFFFF) == 0)
            {
                cancellationToken.ThrowIfCancellationRequested();
            }

            firstChild[context] = next;
            var children = input.Number();
            for (var id = -1; children > 0; children--, next++)
            {
                if (next == ids.Length)
                {
                    throw input.Wrong($"there are more than the announced {ids.Length - 1} n-grams");
                }

                var delta = input.Number();
                ids[next] = delta < vocabularySize - id - 1 ? id += delta + 1 : throw input.Wrong($"an id is not below {vocabularySize}");
                counts[next] = input.Number();
                if (counts[next] == 0 && (context > 0 || id != endOfTextId))
                {
                    throw input.Wrong("an n-gram has a count of 0");
                }
            }

            // The children of an order are the n-grams of the next.
            var at = Array.BinarySearch(orderStart, 0, order + 1, context + 1);
            if (at > 0 && next != orderStart[at + 1])
            {
                throw input.Wrong($"there are {next - orderStart[at]} {at}-grams, but {orderStart[at + 1] - orderStart[at]} were announced");
            }
        }

        if (next != ids.Length)
        {
            throw input.Wrong($"there are {next - 1} n-grams, but {ids.Length - 1} were announced");
        }

        if (counts.AsSpan(1..orderStart[2]).IndexOfAnyExcept(0) < 0)
        {
            throw input.Wrong("no token was counted");
        }

        firstChild[^1] = next;
        input.Finish();
        try
        {
            var trie = new NgramTrie(vocabularySize, orderStart, ids, firstChild, cancellationToken);
            return trie.Find(0, endOfTextId) >= 0
                ? new NgramCounts(trie, counts, vocabularySize, endOfTextId)
                : throw new InvalidDataException("the end-of-text id is missing.");
        }
        catch (InvalidDataException exception)
        {
            throw new InvalidDataException($"'{path}' holds no counts of a text: {exception.Message}", exception);
        }
    }

    /// <summary>Numbers of 7 bits a byte, lowest first, the highest bit saying that more follows; and a hash of all that was written.</summary>
    private sealed class Output(Stream stream)
    {
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        private readonly byte[] _buffer = new byte[BufferLength];
        private int _length;

        public void Bytes(ReadOnlySpan<byte> bytes)
        {
            Reserve(bytes.Length);
            bytes.CopyTo(_buffer.AsSpan(_length));
            _length += bytes.Length;
        }

        public void Int32(int value)
        {
            Reserve(sizeof(int));
            BinaryPrimitives.WriteInt32LittleEndian(_buffer.AsSpan(_length), value);
            _length += sizeof(int);
        }

        public void Number(int value)
        {
            Reserve(5);
            var rest = (uint)value;
            for (; rest >= 0x80; rest >>= 7)
            {
                _buffer[_length++] = (byte)(rest | 0x80);
            }

            _buffer[_length++] = (byte)rest;
        }

        public void Finish()
        {
            Flush();
            stream.Write(_hash.GetHashAndReset());
            _hash.Dispose();
        }

        private void Reserve(int count)
        {
            if (_length + count > _buffer.Length)
            {
                Flush();
            }
        }

        private void Flush()
        {
            _hash.AppendData(_buffer, 0, _length);
            stream.Write(_buffer, 0, _length);
            _length = 0;
        }
    }

    /// <summary>The other way round.</summary>
    private sealed class Input(Stream stream, string path)
    {
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        private readonly byte[] _buffer = new byte[BufferLength];
        private readonly byte[] _four = new byte[sizeof(int)];
        private long _before;
        private int _place;
        private int _length;

        public InvalidDataException Wrong(string what) => new($"'{path}' is damaged: at byte {_before + _place}, {what}. Restore the file, or train the model again.");

        public byte[] Bytes(int count) => [.. Enumerable.Range(0, count).Select(_ => Next())];

        public int Int32(string what, int least, int most)
        {
            for (var i = 0; i < _four.Length; i++)
            {
                _four[i] = Next();
            }

            var value = BinaryPrimitives.ReadInt32LittleEndian(_four);
            return value >= least && value <= most ? value : throw Wrong($"{what} is {value}, but must be from {least} to {most}");
        }

        public int Number()
        {
            uint value = 0;
            for (var shift = 0; shift < 35; shift += 7)
            {
                var next = Next();
                value |= (next & 0x7Fu) << shift;
                if (next < 0x80)
                {
                    return shift < 28 || next < 8 ? (int)value : throw Wrong("a number is above 2147483647");
                }
            }

            throw Wrong("a number is longer than 5 bytes");
        }

        public void Finish()
        {
            _hash.AppendData(_buffer, 0, _place);
            var expected = _hash.GetHashAndReset();
            _hash.Dispose();
            var rest = new MemoryStream();
            rest.Write(_buffer, _place, _length - _place);
            stream.CopyTo(rest);
            if (!rest.ToArray().AsSpan().SequenceEqual(expected))
            {
                throw Wrong(rest.Length == expected.Length ? "the checksum is another" : $"{rest.Length} bytes follow where a checksum of {expected.Length} has to");
            }
        }

        private byte Next()
        {
            if (_place == _length)
            {
                _hash.AppendData(_buffer, 0, _length);
                _before += _length;
                _place = 0;
                _length = stream.Read(_buffer);
                if (_length == 0)
                {
                    throw Wrong("the file ends too soon");
                }
            }

            return _buffer[_place++];
        }
    }
}
