using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// A copy of a replica's parameters and optimizer state, for peers that lack them. It lies outside the managed heap, where it would
/// stay until a full collection: disposed of, its memory is free for the next copy as soon as the last reader has let go of it.
/// </summary>
internal sealed unsafe class ServedState : SafeHandleZeroOrMinusOneIsInvalid
{
    /// <summary>Copies a state.</summary>
    /// <param name="step">Steps done in it.</param>
    /// <param name="parameters">The parameters.</param>
    /// <param name="optimizerState">The optimizer's buffers, each as long as the parameters.</param>
    public ServedState(long step, ReadOnlySpan<float> parameters, IReadOnlyList<float[]> optimizerState)
        : base(ownsHandle: true)
    {
        (Step, Length) = (step, (1L + optimizerState.Count) * parameters.Length * sizeof(float));
        SetHandle((nint)NativeMemory.Alloc((nuint)Length));
        parameters.CopyTo(new Span<float>((void*)handle, parameters.Length));
        for (var i = 0; i < optimizerState.Count; i++)
        {
            optimizerState[i].CopyTo(new Span<float>((float*)handle + ((i + 1L) * parameters.Length), parameters.Length));
        }
    }

    /// <summary>Steps done in it.</summary>
    public long Step { get; }

    /// <summary>All bytes.</summary>
    public long Length { get; }

    /// <summary>Keeps it for a reader, who calls <see cref="Release"/> in the end; false when it is gone.</summary>
    public bool TryHold()
    {
        var isHeld = false;
        try
        {
            DangerousAddRef(ref isHeld);
        }
        catch (ObjectDisposedException)
        {
            // It was disposed of meanwhile.
        }

        return isHeld;
    }

    /// <summary>A reader has done with it.</summary>
    public void Release() => DangerousRelease();

    /// <summary>Copies bytes from an offset on, so that the destination is filled. It has to be held.</summary>
    public void Read(long offset, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset + destination.Length, Length);
        new ReadOnlySpan<byte>((byte*)handle + offset, destination.Length).CopyTo(destination);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        NativeMemory.Free((void*)handle);
        return true;
    }
}
