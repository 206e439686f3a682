using System.Buffers.Binary;
using LlmPipeline.Storage;
using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Shards;

/// <summary>Writes a split as token shards of bounded size and a file of document ends, which wait in a temporary file.</summary>
internal sealed class ShardWriter(DirectoryWriter directory, int bytesPerToken, string scratchFolder, long maxShardBytes = ShardWriter.DefaultMaxShardBytes)
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
        await using var documentEnds = ScratchFile.Create(scratchFolder);
        var end = new byte[sizeof(ulong)];
        long documents = 0, tokens = 0, bytes = 0, characters = 0;
        var unknown = default(UnknownText);
        await using var source = batches.GetAsyncEnumerator(cancellationToken);
        var offset = 0;
        var more = await source.MoveNextAsync();
        while (more)
        {
            var shard = $"{split}-{shards.Count:D5}.bin";
            await directory.WriteAsync(shard, WriteShardAsync, cancellationToken);
            shards.Add(shard);
        }

        var documentsFile = $"{split}.documents";
        documentEnds.Position = 0;
        await directory.WriteAsync(documentsFile, documentEnds.CopyToAsync, cancellationToken);
        return new SplitProperties
        {
            Split = split,
            DocumentCount = documents,
            TokenCount = tokens,
            ByteCount = bytes,
            CharacterCount = characters,
            UnknownTokenCount = unknown.Tokens,
            UnknownByteCount = unknown.Bytes,
            Shards = shards,
            Documents = documentsFile,
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
                    documents++;
                    BinaryPrimitives.WriteUInt64LittleEndian(end, (ulong)tokens);
                    documentEnds.Write(end);
                }

                bytes += batch.TextBytes;
                characters += batch.TextCharacters;
                unknown += batch.Unknown;
                written(batch);
                offset = 0;
                more = await source.MoveNextAsync();
            }
        }
    }
}
