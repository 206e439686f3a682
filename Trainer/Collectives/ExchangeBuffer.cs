using System.Buffers;
using System.Runtime.InteropServices;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// What one all-reduce sums: fp32 gradients as fixed-point integers, followed by slots of 32 raw bits. Made once, used for every
/// step.
/// </summary>
internal sealed class ExchangeBuffer
{
    private readonly Func<Span<float>> _gradients;
    private readonly int _gradientLength;
    private readonly long[] _sums;
    private readonly uint[] _slots;

    // Of each chunk of the summed gradient; not a number where it is not known yet.
    private readonly double[] _squareSums;

    /// <summary>Makes a buffer.</summary>
    /// <param name="gradientLength">Number of gradient elements; may be 0.</param>
    /// <param name="slotCount">Number of slots.</param>
    /// <param name="gradients">Where summed gradients go: the buffer that micro-batches leave theirs in, or, with null, one of its own.</param>
    /// <param name="isOnlyAddend">
    /// There is one micro-batch and one worker: its gradient, rounded to the multiples that are summed otherwise, is the sum, and no
    /// integers are kept. <paramref name="gradients"/> has to be set.
    /// </param>
    public ExchangeBuffer(int gradientLength, int slotCount, Func<Span<float>>? gradients = null, bool isOnlyAddend = false)
    {
        var own = gradients is null ? new float[gradientLength] : [];
        _gradients = gradients ?? (() => own);
        _gradientLength = gradientLength;
        _sums = new long[(isOnlyAddend ? 0 : gradientLength) + slotCount];
        _slots = new uint[slotCount];
        _squareSums = new double[GradientNorm.ChunkCount(gradientLength)];
        IsOnlyAddend = isOnlyAddend;
    }

    /// <summary>No integers are kept, so nothing can be exchanged.</summary>
    public bool IsOnlyAddend { get; }

    /// <summary>All elements.</summary>
    public int Length => _gradientLength + _slots.Length;

    /// <summary>The integers: before the exchange this worker's share, afterwards partial sums.</summary>
    public Span<long> Sums => !IsOnlyAddend ? _sums : throw new InvalidOperationException("The only addend has no integers.");

    /// <summary>After the exchange: the summed gradient.</summary>
    public Span<float> Gradients => _gradients();

    /// <summary>Sets this worker's share of the slots to 0; with <paramref name="gradients"/> that of the gradients too.</summary>
    public void Clear(bool gradients)
    {
        (gradients ? _sums : SlotSums).Clear();
        Array.Fill(_squareSums, double.NaN);
    }

    /// <summary>
    /// Adds the gradient of one micro-batch to this worker's share and sets it to 0 (the only addend stays); false when an element
    /// is not finite or too large.
    /// </summary>
    /// <param name="gradients">The gradient.</param>
    /// <param name="overwrite">True for the first micro-batch of a step.</param>
    /// <param name="limit">See <see cref="FixedPoint.LimitFor"/>.</param>
    public bool Add(Span<float> gradients, bool overwrite, float limit)
        => IsOnlyAddend ? FixedPoint.Round(gradients, limit) : FixedPoint.AddAndClear(gradients, _sums.AsSpan(0, _gradientLength), overwrite, limit);

    /// <summary>Adds a count to a slot; counts of all workers are summed.</summary>
    public void AddCount(int slot, int count) => SlotSums[slot] += count;

    /// <summary>Fills a slot; exactly one worker may fill it.</summary>
    public void Set(int slot, float value) => SlotSums[slot] = BitConverter.SingleToUInt32Bits(value);

    /// <summary>Fills two slots; exactly one worker may fill them.</summary>
    public void Set(int slot, double value)
    {
        var bits = BitConverter.DoubleToUInt64Bits(value);
        SlotSums[slot] = (uint)bits;
        SlotSums[slot + 1] = (uint)(bits >> 32);
    }

    /// <summary>After the exchange: the sum of a slot's counts.</summary>
    public int Count(int slot) => (int)_slots[slot];

    /// <summary>After the exchange: a slot's value.</summary>
    public float Single(int slot) => BitConverter.UInt32BitsToSingle(_slots[slot]);

    /// <summary>After the exchange: the value of two slots.</summary>
    public double Double(int slot) => BitConverter.UInt64BitsToDouble(_slots[slot] | ((ulong)_slots[slot + 1] << 32));

    /// <summary>Turns final sums into results, for a range of elements.</summary>
    public void Finish(int offset, int count)
    {
        var gradients = Math.Clamp(_gradientLength - offset, 0, count);
        if (!IsOnlyAddend)
        {
            FinishGradients(offset, offset + gradients);
        }

        for (var i = offset + gradients; i < offset + count; i++)
        {
            _slots[i - _gradientLength] = (uint)SlotSums[i - _gradientLength];
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
                _squareSums[chunk] = GradientNorm.SumOfSquares(Gradients.Slice(begin, Math.Min(GradientNorm.ChunkLength, _gradientLength - begin)));
            }

            total += _squareSums[chunk];
        }

        return Math.Sqrt(total);
    }

    /// <summary>Copies results as raw bytes, four an element, from a byte on.</summary>
    public void ReadResults(long byteOffset, Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            var part = Results(byteOffset);
            var length = Math.Min(part.Length, destination.Length);
            part[..length].CopyTo(destination);
            destination = destination[length..];
            byteOffset += length;
        }
    }

    /// <summary>Takes results that another worker has finished, as raw bytes.</summary>
    public void WriteResults(long byteOffset, ReadOnlySequence<byte> bytes)
    {
        foreach (var memory in bytes)
        {
            var source = memory.Span;
            while (source.Length > 0)
            {
                var part = Results(byteOffset);
                var length = Math.Min(part.Length, source.Length);
                source[..length].CopyTo(part);
                source = source[length..];
                byteOffset += length;
            }
        }
    }

    private void FinishGradients(int begin, int end)
    {
        while (begin < end)
        {
            var chunk = begin / GradientNorm.ChunkLength;
            var next = Math.Min((chunk + 1) * GradientNorm.ChunkLength, end);
            var sums = _sums.AsSpan(begin, next - begin);
            var results = Gradients.Slice(begin, next - begin);
            if (begin % GradientNorm.ChunkLength == 0 && (next == _gradientLength || next % GradientNorm.ChunkLength == 0))
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

    private Span<long> SlotSums => _sums.AsSpan(_sums.Length - _slots.Length);

    // The results from a byte on, up to the end of the gradients or of the slots.
    private Span<byte> Results(long byteOffset)
    {
        var gradientBytes = (long)_gradientLength * sizeof(float);
        return byteOffset < gradientBytes
            ? MemoryMarshal.AsBytes(Gradients[(int)(byteOffset / sizeof(float))..])[(int)(byteOffset % sizeof(float))..]
            : MemoryMarshal.AsBytes(_slots.AsSpan())[(int)(byteOffset - gradientBytes)..];
    }
}
