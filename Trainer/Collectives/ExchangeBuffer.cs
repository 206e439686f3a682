using System.Runtime.InteropServices;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// What one all-reduce sums: fp32 gradients as fixed-point integers, followed by slots of 32 raw bits. Made once, used for every
/// step.
/// </summary>
/// <param name="gradientLength">Number of gradient elements; may be 0.</param>
/// <param name="slotCount">Number of slots.</param>
internal sealed class ExchangeBuffer(int gradientLength, int slotCount)
{
    private readonly long[] _sums = new long[gradientLength + slotCount];
    private readonly float[] _results = new float[gradientLength + slotCount];

    // Of each chunk of the summed gradient; not a number where it is not known yet.
    private readonly double[] _squareSums = new double[GradientNorm.ChunkCount(gradientLength)];

    /// <summary>Gradient elements.</summary>
    public int GradientLength => gradientLength;

    /// <summary>All elements.</summary>
    public int Length => _sums.Length;

    /// <summary>The integers: before the exchange this worker's share, afterwards partial sums.</summary>
    public Span<long> Sums => _sums;

    /// <summary>After the exchange: the summed gradient.</summary>
    public Span<float> Gradients => _results.AsSpan(0, gradientLength);

    /// <summary>All results as raw bytes.</summary>
    public Span<byte> ResultBytes => MemoryMarshal.AsBytes(_results.AsSpan());

    /// <summary>Sets this worker's share of the slots to 0; with <paramref name="gradients"/> that of the gradients too.</summary>
    public void Clear(bool gradients)
    {
        _sums.AsSpan(gradients ? 0 : gradientLength).Clear();
        Array.Fill(_squareSums, double.NaN);
    }

    /// <summary>
    /// Adds the gradient of one micro-batch to this worker's share and sets it to 0; false when an element is not finite or
    /// too large.
    /// </summary>
    /// <param name="gradients">The gradient.</param>
    /// <param name="overwrite">True for the first micro-batch of a step.</param>
    /// <param name="limit">See <see cref="FixedPoint.LimitFor"/>.</param>
    public bool Add(Span<float> gradients, bool overwrite, float limit)
        => FixedPoint.AddAndClear(gradients, _sums.AsSpan(0, gradientLength), overwrite, limit);

    /// <summary>Adds a count to a slot; counts of all workers are summed.</summary>
    public void AddCount(int slot, int count) => _sums[gradientLength + slot] += count;

    /// <summary>Fills a slot; exactly one worker may fill it.</summary>
    public void Set(int slot, float value) => _sums[gradientLength + slot] = BitConverter.SingleToUInt32Bits(value);

    /// <summary>Fills two slots; exactly one worker may fill them.</summary>
    public void Set(int slot, double value)
    {
        var bits = BitConverter.DoubleToUInt64Bits(value);
        _sums[gradientLength + slot] = (uint)bits;
        _sums[gradientLength + slot + 1] = (uint)(bits >> 32);
    }

    /// <summary>After the exchange: the sum of a slot's counts.</summary>
    public int Count(int slot) => (int)Bits(slot);

    /// <summary>After the exchange: a slot's value.</summary>
    public float Single(int slot) => BitConverter.UInt32BitsToSingle(Bits(slot));

    /// <summary>After the exchange: the value of two slots.</summary>
    public double Double(int slot) => BitConverter.UInt64BitsToDouble(Bits(slot) | ((ulong)Bits(slot + 1) << 32));

    /// <summary>Turns final sums into results, for a range of elements.</summary>
    public void Finish(int offset, int count)
    {
        var gradients = Math.Clamp(gradientLength - offset, 0, count);
        FinishGradients(offset, offset + gradients);
        var bits = MemoryMarshal.Cast<float, uint>(_results.AsSpan());
        for (var i = offset + gradients; i < offset + count; i++)
        {
            bits[i] = (uint)_sums[i];
        }
    }

    /// <summary>After the exchange: the norm of the summed gradient, as <see cref="GradientNorm.Compute"/> gives it.</summary>
    public double Norm()
    {
        var total = 0.0;
        for (var chunk = 0; chunk < _squareSums.Length; chunk++)
        {
            if (double.IsNaN(_squareSums[chunk]))
            {
                var begin = chunk * GradientNorm.ChunkLength;
                _squareSums[chunk] = GradientNorm.SumOfSquares(_results.AsSpan(begin, Math.Min(GradientNorm.ChunkLength, gradientLength - begin)));
            }

            total += _squareSums[chunk];
        }

        return Math.Sqrt(total);
    }

    private void FinishGradients(int begin, int end)
    {
        while (begin < end)
        {
            var chunk = begin / GradientNorm.ChunkLength;
            var next = Math.Min((chunk + 1) * GradientNorm.ChunkLength, end);
            var sums = _sums.AsSpan(begin, next - begin);
            var results = _results.AsSpan(begin, next - begin);
            if (begin % GradientNorm.ChunkLength == 0 && (next == gradientLength || next % GradientNorm.ChunkLength == 0))
            {
                _squareSums[chunk] = FixedPoint.ToSingleAndSquares(sums, results);
            }
            else
            {
                FixedPoint.ToSingle(sums, results);
            }

            begin = next;
        }
    }

    private uint Bits(int slot) => MemoryMarshal.Cast<float, uint>(_results.AsSpan())[gradientLength + slot];
}
