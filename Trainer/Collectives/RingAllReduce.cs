using System.Threading.Channels;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// Sums an <see cref="ExchangeBuffer"/> over all ranks of a ring: reduce-scatter of sums, then all-gather of results
/// (Patarasuk and Yuan 2009). Chunk k of a stage is sent as soon as chunk k of the stage before has arrived, while chunk k + 1
/// is on its way.
/// </summary>
/// <param name="transport">The ring.</param>
/// <param name="chunkElements">Elements of a chunk: at most 8 bytes each and a few, so that the usual one is a little less than a power of two, as buffers are.</param>
internal sealed class RingAllReduce(IRingTransport transport, int chunkElements = 60 * 1024) : IChunkData
{
    private ExchangeBuffer _buffer = null!;

    /// <summary>Bytes of elements sent so far.</summary>
    public long TransferredBytes { get; private set; }

    /// <summary>Runs one all-reduce; all ranks call with the same arguments. Afterwards every rank has the same results, bit for bit.</summary>
    /// <param name="step">The step.</param>
    /// <param name="bucket">See <see cref="Buckets"/>.</param>
    /// <param name="buffer">This rank's share; receives the results.</param>
    /// <exception cref="RingBrokenException">The exchange did not complete here; it may have on other ranks.</exception>
    public Task RunAsync(long step, int bucket, ExchangeBuffer buffer) => RunAsync(step, bucket, buffer, 0, buffer.Length);

    /// <summary>The same for a range of elements. One all-reduce runs at a time.</summary>
    public async Task RunAsync(long step, int bucket, ExchangeBuffer buffer, int offset, int count)
    {
        _buffer = buffer;
        var layout = new Layout(offset, count, transport.Size, chunkElements, buffer.Format);

        // Whoever received a chunk sends it on, without another thread.
        var arrived = Channel.CreateUnbounded<bool>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true, AllowSynchronousContinuations = true });
        using var failed = new CancellationTokenSource();
        var sending = Task.Run(() => SendAsync(layout, step, bucket, arrived.Reader, failed.Token));
        var receiving = Task.Run(() => ReceiveAsync(layout, step, bucket, arrived.Writer));
        var first = await Task.WhenAny(sending, receiving);
        if (!first.IsCompletedSuccessfully)
        {
            transport.Abort();
            await failed.CancelAsync();
            await Task.WhenAll(sending, receiving).ContinueWith(static _ => { }, TaskScheduler.Default);
            await first;
        }

        try
        {
            await Task.WhenAll(sending, receiving);
        }
        catch
        {
            transport.Abort();
            throw;
        }

        // What the caller does next must not hold up the thread that reads the connection.
        await Task.Yield();
    }

    private async Task SendAsync(Layout layout, long step, int bucket, ChannelReader<bool> arrived, CancellationToken failed)
    {
        for (var stage = 0; stage < layout.Stages; stage++)
        {
            for (var chunk = 0; chunk < layout.Chunks; chunk++)
            {
                if (stage > 0)
                {
                    await arrived.ReadAsync(failed);
                }

                var header = layout.Header(transport.Epoch, step, bucket, stage, chunk, layout.SegmentSent(transport.Rank, stage));
                if (header.Count > 0)
                {
                    await transport.SendAsync(header, this);
                }
            }
        }
    }

    private async Task ReceiveAsync(Layout layout, long step, int bucket, ChannelWriter<bool> arrived)
    {
        for (var stage = 0; stage < layout.Stages; stage++)
        {
            for (var chunk = 0; chunk < layout.Chunks; chunk++)
            {
                var header = layout.Header(transport.Epoch, step, bucket, stage, chunk, layout.SegmentSent(transport.Rank, stage + 1));
                if (header.Count > 0)
                {
                    await transport.ReceiveAsync(header, this);
                }

                arrived.TryWrite(true);
            }
        }
    }

    /// <inheritdoc/>
    public int MaxBytes(in ChunkHeader header) => _buffer.MaxBytes((int)header.Offset, header.Count);

    /// <inheritdoc/>
    public int Write(in ChunkHeader header, Span<byte> destination)
    {
        var written = IsSum(header) ? _buffer.WriteSums((int)header.Offset, header.Count, destination, isPartial: header.Stage > 0)
            : _buffer.WriteResults((int)header.Offset, header.Count, destination);
        TransferredBytes += written;
        return written;
    }

    /// <inheritdoc/>
    public void Accept(in ChunkHeader header, ReadOnlySpan<byte> bytes)
    {
        if (IsSum(header))
        {
            _buffer.AddSums((int)header.Offset, header.Count, bytes, isComplete: header.Stage == transport.Size - 2);
        }
        else
        {
            _buffer.TakeResults((int)header.Offset, header.Count, bytes);
        }
    }

    private bool IsSum(in ChunkHeader header) => header.Stage < transport.Size - 1;

    /// <summary>How a range of elements is cut: one segment a rank, each of as many chunks (the last ones shorter or empty).</summary>
    private sealed class Layout(int first, int length, int size, int chunkElements, ExchangeFormat format)
    {
        private readonly int _segment = (length + size - 1) / size;

        public int Stages => 2 * (size - 1);

        public int Chunks => (_segment + chunkElements - 1) / chunkElements;

        /// <summary>The segment that a rank sends in a stage; it receives the one that it sends in the next stage.</summary>
        public int SegmentSent(int rank, int stage) => (rank - stage + (2 * size)) % size;

        public ChunkHeader Header(long epoch, long step, int bucket, int stage, int chunk, int segment)
        {
            var begin = Math.Min((long)segment * _segment, length);
            var end = Math.Min(begin + _segment, length);
            var offset = Math.Min(begin + ((long)chunk * chunkElements), end);
            return new ChunkHeader(epoch, step, bucket, stage, first + offset, (int)Math.Min(chunkElements, end - offset), format);
        }
    }
}
