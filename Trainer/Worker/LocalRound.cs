using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// How far this worker has come with shards of a round. It outlives an epoch: when a member is lost or joins, a shard that stays here
/// goes on where it is.
/// </summary>
/// <param name="Key">What the shards' training depends on besides the shard.</param>
internal sealed record LocalRound(LocalRoundKey Key)
{
    private readonly Dictionary<int, LocalShard> _shards = [];

    /// <summary>What an epoch before spent on it (<see cref="StepClock.Ticks"/>).</summary>
    public long[]? Spent { get; set; }

    /// <summary>A shard's training, which begins as it is made.</summary>
    /// <param name="shard">Its number.</param>
    /// <param name="parameters">What it begins from.</param>
    /// <param name="state">The optimizer's buffers that it begins from.</param>
    public LocalShard Shard(int shard, ReadOnlySpan<float> parameters, IEnumerable<float[]> state)
    {
        if (!_shards.TryGetValue(shard, out var held))
        {
            _shards[shard] = held = new LocalShard(parameters.ToArray(), [.. state.Select(buffer => buffer.AsSpan().ToArray())]);
        }

        return held;
    }
}

/// <summary>What the training of a round's shards depends on besides the run and the shard.</summary>
internal sealed record LocalRoundKey(long FirstStep, int Steps, int Rollbacks, long DataOffset, int MicroBatchSize);

/// <summary>A shard's training in a round.</summary>
/// <param name="parameters">Its parameters; the model's while it is being trained.</param>
/// <param name="state">The inner optimizer's buffers.</param>
internal sealed class LocalShard(float[] parameters, float[][] state)
{
    /// <summary>Parameters after <see cref="Losses"/>' steps; when the round is over, the outer gradient.</summary>
    public float[] Parameters => parameters;

    /// <summary>The inner optimizer's buffers.</summary>
    public float[][] State => state;

    /// <summary>Mean loss of each step so far.</summary>
    public List<float> Losses { get; } = [];

    /// <summary>Norm of the gradient of each step so far.</summary>
    public List<float> Norms { get; } = [];

    /// <summary>A loss or a gradient was not finite: its training has ended.</summary>
    public bool IsBad { get; set; }

    /// <summary><see cref="Parameters"/> holds the outer gradient.</summary>
    public bool IsOver { get; private set; }

    /// <summary>
    /// Puts the outer gradient, old parameters minus new ones, in the place of the parameters.
    /// </summary>
    /// <param name="old">Parameters before the round.</param>
    /// <param name="clipNorm">Its largest norm; 0 for any.</param>
    public void End(ReadOnlySpan<float> old, double clipNorm)
    {
        for (var i = 0; i < parameters.Length; i++)
        {
            parameters[i] = old[i] - parameters[i];
        }

        var norm = Optimizers.GradientNorm.Compute(parameters);
        var factor = Optimizers.GradientNorm.ClipFactor(norm, clipNorm);
        if (factor != 1)
        {
            for (var i = 0; i < parameters.Length; i++)
            {
                parameters[i] *= factor;
            }
        }

        IsBad |= !double.IsFinite(norm) || !(Largest() < FixedPoint.LimitFor(1 << 10));
        IsOver = true;
    }

    private float Largest()
    {
        var largest = 0f;
        foreach (var buffer in state.Prepend(parameters))
        {
            foreach (var value in buffer)
            {
                // NaN passes through.
                largest = !(Math.Abs(value) <= largest) ? Math.Abs(value) : largest;
            }
        }

        return largest;
    }
}
