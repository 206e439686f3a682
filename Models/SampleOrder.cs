namespace LlmPipeline.Models;

/// <summary>
/// Which window of the token stream is sample i of a run: a stateless permutation of (seed, epoch, i), so that any position is
/// a seek and the order does not depend on the number of workers.
/// </summary>
/// <remarks>
/// An epoch cuts the stream, from a shift of its own on, into windows that begin T ids apart (the last target of a window is
/// the first input of its neighbour; no id is a target twice), and visits them in the order of a <see cref="Permutation"/>.
/// </remarks>
public sealed class SampleOrder
{
    private readonly int _context;
    private readonly long _seed;
    private readonly long _shifts;

    /// <summary>Sets up the order of a stream.</summary>
    /// <param name="tokenCount">Length of the stream.</param>
    /// <param name="context">T; a sample is T inputs and T targets, that is T + 1 ids.</param>
    /// <param name="seed">Seed of the run.</param>
    /// <exception cref="ArgumentException">The stream is shorter than one sample.</exception>
    public SampleOrder(long tokenCount, int context, long seed)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(context);
        if (tokenCount < context + 1L)
        {
            throw new ArgumentException($"The token stream has {tokenCount} ids; one sample of context {context} needs {context + 1L}. Take more text or a smaller context.", nameof(tokenCount));
        }

        _context = context;
        _seed = seed;

        // Where the stream allows it, leave T - 1 ids of room, so that every shift 0 .. T - 1 fits.
        SamplesPerEpoch = Math.Max(1, (tokenCount - context) / context);
        _shifts = Math.Min(context, tokenCount - (SamplesPerEpoch * context));
    }

    /// <summary>Samples in one epoch.</summary>
    public long SamplesPerEpoch { get; }

    /// <summary>First id of sample <paramref name="index"/>, counted from 0 over all epochs. Windows of one epoch do not overlap; each epoch shifts them by an amount of its own.</summary>
    public long PositionOf(long index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        var (epoch, place) = Math.DivRem(index, SamplesPerEpoch);
        var shift = (long)(Seeds.Derive(_seed, "sample-shift", epoch) % (ulong)_shifts);
        return shift + (Permutation.Of(place, SamplesPerEpoch, Seeds.Derive(_seed, "sample-order", epoch)) * _context);
    }
}
