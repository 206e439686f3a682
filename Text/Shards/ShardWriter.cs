using System.Buffers.Binary;
using LlmPipeline.Storage;

namespace LlmPipeline.Text.Shards;

/// <summary>Writes a split as token shards of bounded size and a file of document ends.</summary>
internal sealed class ShardWriter(DirectoryWriter directory, int bytesPerToken, long maxShardBytes = ShardWriter.DefaultMaxShardBytes)
{
    /// <summary>A shard is at most this large.</summary>
    public const long DefaultMaxShardBytes = 64 << 20;

    /// <summary>Writes all batches, in order.</summary>
    /// <param name="split">Name of the split, the first part of file names.</param>
    /// <param name="batches">The encoded documents.</param>
    /// <param name="written">Told of each batch that was written.</param>
    /// <param name="cancellationToken">Stops the writing.</param>
    public async Task<SplitProperties> WriteAsync(
        string split, IAsyncEnumerable<EncodedBatch> batches, Action<EncodedBatch> written, CancellationToken cancellationToken)
    {
        var shards = new List<string>();
        var documentEnds = new List<long>();
        long tokens = 0, bytes = 0, characters = 0;
        await using var source = batches.GetAsyncEnumerator(cancellationToken);
        var offset = 0;
        var more = await source.MoveNextAsync();
        while (more)
        {
            var shard = $"{split}-{shards.Count:D5}.bin";
            await directory.WriteAsync(shard, WriteShardAsync, cancellationToken);
            shards.Add(shard);
        }

        var documents = $"{split}.documents";
        await directory.WriteAsync(documents, (stream, ct) => WriteEndsAsync(stream, documentEnds, ct), cancellationToken);
        return new SplitProperties
        {
            Split = split,
            DocumentCount = documentEnds.Count,
            TokenCount = tokens,
            ByteCount = bytes,
            CharacterCount = characters,
            Shards = shards,
            Documents = documents,
        };

        async Task WriteShardAsync(Stream stream, CancellationToken ct)
        {
            var room = maxShardBytes / bytesPerToken * bytesPerToken;
            while (more && room > 0)
            {
                var batch = source.Current;
                var count = (int)Math.Min(room, batch.Bytes.Length - offset);
                await stream.WriteAsync(batch.Bytes.AsMemory(offset, count), ct);
                offset += count;
                room -= count;
                if (offset < batch.Bytes.Length)
                {
                    continue;
                }

                foreach (var length in batch.DocumentTokens)
                {
                    tokens += length;
                    documentEnds.Add(tokens);
                }

                bytes += batch.TextBytes;
                characters += batch.TextCharacters;
                written(batch);
                offset = 0;
                more = await source.MoveNextAsync();
            }
        }
    }

    private static async Task WriteEndsAsync(Stream stream, List<long> ends, CancellationToken cancellationToken)
    {
        var buffer = new byte[sizeof(ulong) * 4096];
        var count = 0;
        foreach (var end in ends)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(buffer.AsSpan(count), (ulong)end);
            count += sizeof(ulong);
            if (count == buffer.Length)
            {
                await stream.WriteAsync(buffer, cancellationToken);
                count = 0;
            }
        }

        await stream.WriteAsync(buffer.AsMemory(0, count), cancellationToken);
    }
}
