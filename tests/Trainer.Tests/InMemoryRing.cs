using System.Threading.Channels;
using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Tests;

/// <summary>A ring within the process.</summary>
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

    /// <summary>Sees the bytes of every chunk that is sent.</summary>
    public Action<byte[]>? Sent { get; set; }

    /// <summary>Sends this chunk twice, counted from 1; 0 never.</summary>
    public long RepeatChunk { get; set; }

    /// <summary>Lets chunks be late by chance; null for none.</summary>
    public Random? Late { get; set; }

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

        var bytes = new byte[data.MaxBytes(header)];
        var length = data.Write(header, bytes);
        Sent?.Invoke(bytes[..length]);
        for (var i = Late?.Next(-20, 6) ?? 0; i > 0; i--)
        {
            await Task.Yield();
        }

        await Guard(_out.Writer.WriteAsync((header, bytes[..length]), _broken.Token));
        if (_sent == RepeatChunk)
        {
            await Guard(_out.Writer.WriteAsync((header, bytes[..length]), _broken.Token));
        }
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

        if (chunk.Header != expected)
        {
            throw new RingBrokenException($"{chunk.Header} instead of {expected}");
        }

        data.Accept(chunk.Header, chunk.Bytes);
    }

    public void Abort() => _broken.Cancel();

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
}
