using System.Runtime.InteropServices;

namespace LlmPipeline.Trainer.Worker;

/// <summary>A copy of a replica's parameters and optimizer state, for peers that lack them.</summary>
/// <param name="step">Steps done in it.</param>
/// <param name="buffers">Parameters, then the optimizer's buffers; all of one length.</param>
internal sealed class ServedState(long step, IReadOnlyList<float[]> buffers)
{
    /// <summary>Steps done in it.</summary>
    public long Step => step;

    /// <summary>All bytes.</summary>
    public long Length => BufferBytes * buffers.Count;

    private long BufferBytes => (long)buffers[0].Length * sizeof(float);

    /// <summary>Copies bytes from an offset on, so that the destination is filled.</summary>
    public void Read(long offset, Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            var part = MemoryMarshal.AsBytes(buffers[(int)(offset / BufferBytes)].AsSpan())[(int)(offset % BufferBytes)..];
            var length = Math.Min(part.Length, destination.Length);
            part[..length].CopyTo(destination);
            destination = destination[length..];
            offset += length;
        }
    }
}
