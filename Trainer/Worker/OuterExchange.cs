using LlmPipeline.Models;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Worker;

/// <summary>What a worker adds to the means of a round.</summary>
/// <param name="Shard">The shard's number.</param>
/// <param name="Weight">What it counts; the weights of all shards sum to 1.</param>
/// <param name="Training">Its outer gradient and its optimizer's state.</param>
internal sealed record OuterShare(int Shard, float Weight, LocalShard Training);

/// <summary>
/// Means over the shards of a round. They are sums of integers, so that it cannot be seen who trained which shard: multiples of 2^-44,
/// or of a scale that all shards share.
/// </summary>
/// <param name="buffer">Of the parameters' length; its slots are not used.</param>
/// <param name="optimizer">Says what state is averaged.</param>
/// <param name="seed">Of the run; for rounding.</param>
/// <param name="exchange">Sums a buffer of a step, in a bucket.</param>
internal sealed class OuterExchange(ExchangeBuffer buffer, LocalOptimizer optimizer, long seed, Action<long, int, ExchangeBuffer> exchange)
{
    private ExchangeBuffer? _scales;
    private ExchangeBuffer? _integers;
    private readonly float[] _addend = new float[buffer.Gradients.Length];

    /// <summary>After <see cref="Run"/>: the mean outer gradient.</summary>
    public float[] Gradient { get; } = new float[buffer.Gradients.Length];

    /// <summary>After <see cref="Run"/>: the mean of each buffer of the inner optimizer that is kept. Of a mean of squares, the square of the mean root.</summary>
    public IReadOnlyList<float[]> State { get; } = [.. Enumerable.Range(0, optimizer.KeptInnerBuffers).Select(_ => new float[buffer.Gradients.Length])];

    /// <summary>Exchanges and averages; all members call with their own shares.</summary>
    /// <param name="wire">What is sent.</param>
    /// <param name="own">This worker's shares; may be empty.</param>
    /// <param name="shards">Shards of all members.</param>
    /// <param name="step">The last step of the round.</param>
    public void Run(OuterWire wire, IReadOnlyList<OuterShare> own, int shards, long step)
    {
        Average(wire, own, share => share.Training.Parameters, Gradient, shards, step, Buckets.OuterGradient);
        for (var i = 0; i < State.Count; i++)
        {
            // A moment has to keep its proportion to the other one, for which 8 bits are too few.
            var buffer = i;
            var isMeanSquare = optimizer.Inner.StateNames[i] == optimizer.Inner.MeanSquareName;
            Average(
                wire == OuterWire.Int8 ? OuterWire.Int16 : wire, own, share => share.Training.State[buffer], State[i], shards, step, Buckets.OuterState + i, isMeanSquare);
        }
    }

    private void Average(
        OuterWire wire, IReadOnlyList<OuterShare> own, Func<OuterShare, float[]> part, float[] mean, int shards, long step, int bucket, bool isMeanSquare = false)
    {
        if (wire == OuterWire.Fp32)
        {
            buffer.Clear();
            foreach (var share in own)
            {
                Weigh(part(share), share.Weight, isMeanSquare);
                buffer.Add(_addend, float.PositiveInfinity);
            }

            exchange(step, bucket, buffer);
            buffer.Gradients.CopyTo(mean);
        }
        else
        {
            AverageIntegers(wire, own, part, mean, shards, step, bucket, isMeanSquare);
        }

        if (isMeanSquare)
        {
            for (var i = 0; i < mean.Length; i++)
            {
                mean[i] *= mean[i];
            }
        }
    }

    private void AverageIntegers(
        OuterWire wire, IReadOnlyList<OuterShare> own, Func<OuterShare, float[]> part, float[] mean, int shards, long step, int bucket, bool isMeanSquare)
    {
        var blocks = ScaledIntegers.BlockCount(mean.Length);
        var scales = _scales?.Length == shards * blocks ? _scales : _scales = new ExchangeBuffer(0, shards * blocks);
        scales.Clear();
        foreach (var share in own)
        {
            Weigh(part(share), share.Weight, isMeanSquare);
            ScaledIntegers.Largest(_addend, (block, largest) => scales.Set((share.Shard * blocks) + block, largest));
        }

        exchange(step, Buckets.OuterScales, scales);
        var limit = ScaledIntegers.LimitFor(wire, shards);
        var scale = new float[blocks];
        for (var block = 0; block < blocks; block++)
        {
            var largest = 0f;
            for (var shard = 0; shard < shards; shard++)
            {
                largest = Math.Max(largest, scales.Single((shard * blocks) + block));
            }

            scale[block] = largest / limit;
        }

        var integers = _integers ??= new ExchangeBuffer(mean.Length, 0, () => buffer.Gradients, format: ExchangeFormat.Integers);
        integers.Clear();
        foreach (var share in own)
        {
            Weigh(part(share), share.Weight, isMeanSquare);
            var random = isMeanSquare ? (ulong?)null : Seeds.Derive(seed, "outer", step, (bucket * (long)shards) + share.Shard);
            ScaledIntegers.Add(_addend, scale, limit, random, integers.Sums);
        }

        exchange(step, bucket, integers);
        ScaledIntegers.ToSingle(integers.Gradients, scale, mean);
    }

    private void Weigh(float[] values, float weight, bool isMeanSquare)
    {
        for (var i = 0; i < values.Length; i++)
        {
            _addend[i] = (isMeanSquare ? MathF.Sqrt(values[i]) : values[i]) * weight;
        }
    }
}
