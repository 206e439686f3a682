using System.Buffers;
using System.Threading.Channels;
using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Tests;

/// <summary>A ring within the process. Every chunk is cut into two segments at an odd byte, as a network may do.</summary>
internal sealed class InMemoryRing : IRingTransport
{
    private readonly Channel<(ChunkHeader Header, byte[] Bytes)> _out;
    private readonly Channel<(ChunkHeader Header, byte[] Bytes)> _in;
    private readonly CancellationTokenSource _broken;
    private long _sent;

    private InMemoryRing(long epoch, int rank, Channel<(ChunkHeader, byte[])>[] links, CancellationTokenSource broken)
    {
        (Epoch, Rank, Size) = (epoch, rank, links.Length);
        (_out, _in, _broken) = (links[rank], links[(rank + links.Length - 1) % links.Length], broken);
    }

    public int Rank { get; }

    public int Size { get; }

    public long Epoch { get; }

    /// <summary>Breaks the ring instead of sending this chunk, counted from 1; 0 never.</summary>
    public long BreakAtChunk { get; set; }

    public static InMemoryRing[] Create(int size, long epoch = 1)
    {
        var links = Enumerable.Range(0, size).Select(_ => Channel.CreateBounded<(ChunkHeader, byte[])>(4)).ToArray();
        var broken = new CancellationTokenSource();
        return [.. Enumerable.Range(0, size).Select(rank => new InMemoryRing(epoch, rank, links, broken))];
    }

    public async Task SendAsync(ChunkHeader header, IChunkData data)
    {
        if (++_sent == BreakAtChunk)
        {
            Abort();
        }

        var bytes = new byte[data.ByteCount(header)];
        data.Read(header, 0, bytes);
        await Guard(_out.Writer.WriteAsync((header, bytes), _broken.Token));
    }

    public async Task ReceiveAsync(ChunkHeader expected, IChunkData data)
    {
        (ChunkHeader Header, byte[] Bytes) chunk = default;
        try
        {
            chunk = await _in.Reader.ReadAsync(_broken.Token);
        }
        catch (OperationCanceledException exception)
        {
            throw new RingBrokenException("broken", -1, exception);
        }

        Assert.Equal(expected, chunk.Header);
        data.Accept(chunk.Header, Split(chunk.Bytes));
    }

    public void Abort() => _broken.Cancel();

    public static ReadOnlySequence<byte> Split(byte[] bytes)
    {
        var first = new Segment(bytes.AsMemory(0, bytes.Length / 3), 0);
        var second = first.Append(bytes.AsMemory(bytes.Length / 3, 1 < bytes.Length ? 1 : 0));
        var third = second.Append(bytes.AsMemory((bytes.Length / 3) + (1 < bytes.Length ? 1 : 0)));
        return new ReadOnlySequence<byte>(first, 0, third, third.Memory.Length);
    }

    private static async Task Guard(ValueTask task)
    {
        try
        {
            await task;
        }
        catch (OperationCanceledException exception)
        {
            throw new RingBrokenException("broken", -1, exception);
        }
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public Segment(ReadOnlyMemory<byte> memory, long index) => (Memory, RunningIndex) = (memory, index);

        public Segment Append(ReadOnlyMemory<byte> memory)
        {
            var next = new Segment(memory, RunningIndex + Memory.Length);
            Next = next;
            return next;
        }
    }
}
