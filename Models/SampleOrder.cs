namespace LlmPipeline.Models;

/// <summary>
/// Which window of the token stream is sample i of a run: a stateless permutation of (seed, epoch, i), so that any position is
/// a seek and the order does not depend on the number of workers.
/// </summary>
/// <param name="tokenCount">Length of the stream.</param>
/// <param name="context">T; a sample is T inputs and T targets, that is T + 1 ids.</param>
/// <param name="seed">Seed of the run.</param>
public sealed class SampleOrder(long tokenCount, int context, long seed)
{
    /// <summary>Samples in one epoch.</summary>
    public long SamplesPerEpoch => throw new NotImplementedException();

    /// <summary>First id of sample <paramref name="index"/>, counted from 0 over all epochs. Windows of one epoch do not overlap; each epoch shifts them by an amount of its own.</summary>
    public long PositionOf(long index) => throw new NotImplementedException($"{tokenCount} {context} {seed} {index}");
}

/// <summary>Seeds by name: every use of randomness derives its own from (run seed, purpose, position).</summary>
public static class Seeds
{
    /// <summary>The seed of one use.</summary>
    public static ulong Derive(long seed, string purpose, long position = 0, long subPosition = 0) => throw new NotImplementedException();
}
