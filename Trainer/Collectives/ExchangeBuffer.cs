using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// What one all-reduce sums: gradients, as fixed-point integers or as fp32, followed by slots of 32 raw bits, which are always
/// integers. Made once, used for every step.
/// </summary>
internal sealed class ExchangeBuffer
{
    private readonly Func<Span<float>> _gradients;
    private readonly int _gradientLength;
    private readonly ExchangeFormat _format;

    // Of the gradients where they are integers, then of the slots.
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
    /// <param name="format">How gradients are summed and sent; exact by default.</param>
    public ExchangeBuffer(int gradientLength, int slotCount, Func<Span<float>>? gradients = null, bool isOnlyAddend = false, ExchangeFormat format = default)
    {
        var own = gradients is null ? new float[gradientLength] : [];
        _gradients = gradients ?? (() => own);
        _gradientLength = gradientLength;
        _format = format;
        IsOnlyAddend = isOnlyAddend && format.Mode == SumMode.Exact;
        _sums = new long[(HasIntegers ? gradientLength : 0) + slotCount];
        _slots = new uint[slotCount];
        _squareSums = new double[GradientNorm.ChunkCount(gradientLength)];
    }

    /// <summary>How gradients are summed and sent.</summary>
    public ExchangeFormat Format => _format;

    /// <summary>No integers are kept, so nothing can be exchanged.</summary>
    public bool IsOnlyAddend { get; }

    /// <summary>All elements.</summary>
    public int Length => _gradientLength + _slots.Length;

    /// <summary>The integers of exact mode: before the exchange this worker's share, afterwards partial sums.</summary>
    public Span<long> Sums => HasIntegers ? _sums : throw new InvalidOperationException("The gradients are no integers.");

    /// <summary>After the exchange: the summed gradient. In plain mode this worker's share before.</summary>
    public Span<float> Gradients => _gradients();

    private bool HasIntegers => _format.Mode == SumMode.Exact && !IsOnlyAddend;

    private Span<long> SlotSums => _sums.AsSpan(_sums.Length - _slots.Length);

    /// <summary>Sets this worker's share of the slots to 0; with <paramref name="gradients"/> that of the gradients too.</summary>
    public void Clear(bool gradients)
    {
        (gradients ? _sums : SlotSums).Clear();
        if (gradients && _format.Mode == SumMode.Plain)
        {
            Gradients.Clear();
        }

        Array.Fill(_squareSums, double.NaN);
    }

    /// <summary>
    /// Takes the gradient of one micro-batch, or a range of it, as a part of this worker's share. In exact mode it is added and set
    /// to 0 (the only addend stays); in plain mode it lies in <see cref="Gradients"/>, added to what was there, and is only looked at.
    /// </summary>
    /// <param name="gradients">The gradient's elements from <paramref name="offset"/> on.</param>
    /// <param name="overwrite">True for the first micro-batch of a step.</param>
    /// <param name="limit">See <see cref="FixedPoint.LimitFor"/>.</param>
    /// <param name="offset">First element.</param>
    /// <returns>False when an element is not finite or, in exact mode, too large.</returns>
    public bool Add(Span<float> gradients, bool overwrite, float limit, int offset = 0) =>
        _format.Mode == SumMode.Plain ? AreFinite(gradients)
        : IsOnlyAddend ? FixedPoint.Round(gradients, limit)
        : FixedPoint.AddAndClear(gradients, _sums.AsSpan(offset, gradients.Length), overwrite, limit);

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
        var gradients = GradientsIn(offset, count);
        FinishGradients(offset, offset + gradients);
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

    /// <summary>Room that <see cref="WriteSums"/> and <see cref="WriteResults"/> want for a range of elements.</summary>
    public static int MaxBytes(int count) => PackedSums.MaxBytes(count) + PackedSums.MaxBytes(0);

    /// <summary>Writes this worker's sums of a range of elements.</summary>
    /// <returns>Bytes that were written.</returns>
    public int WriteSums(int offset, int count, Span<byte> destination)
    {
        if (HasIntegers)
        {
            return PackedSums.Pack(_sums.AsSpan(offset, count), destination);
        }

        var written = WriteFloats(GradientsOf(offset, count), destination);
        return written + PackedSums.Pack(SlotsIn(SlotSums, offset, count), destination[written..]);
    }

    /// <summary>Adds the sums of another worker.</summary>
    /// <exception cref="InvalidDataException">The bytes are not those of such sums.</exception>
    public void AddSums(int offset, int count, ReadOnlySpan<byte> bytes)
    {
        if (HasIntegers)
        {
            RequireEnd(bytes[PackedSums.Add(bytes, _sums.AsSpan(offset, count))..]);
            return;
        }

        var sums = GradientsOf(offset, count);
        var length = BytesOf(sums.Length, bytes);
        if (_format.Wire == WireFormat.Bf16)
        {
            BFloat16s.Add(bytes[..length], sums);
        }
        else
        {
            AddFloats(bytes[..length], sums);
        }

        bytes = bytes[length..];
        RequireEnd(bytes[PackedSums.Add(bytes, SlotsIn(SlotSums, offset, count))..]);
    }

    /// <summary>Writes results of a range of elements.</summary>
    /// <returns>Bytes that were written.</returns>
    public int WriteResults(int offset, int count, Span<byte> destination)
    {
        if (_format.Wire == WireFormat.Integers)
        {
            return PackedSums.Pack(_sums.AsSpan(offset, count), destination);
        }

        var written = WriteFloats(GradientsOf(offset, count), destination);
        var slots = MemoryMarshal.AsBytes(SlotsIn(_slots.AsSpan(), offset, count));
        slots.CopyTo(destination[written..]);
        return written + slots.Length;
    }

    /// <summary>Takes results that another worker has finished.</summary>
    /// <exception cref="InvalidDataException">The bytes are not those of such results.</exception>
    public void TakeResults(int offset, int count, ReadOnlySpan<byte> bytes)
    {
        if (_format.Wire == WireFormat.Integers)
        {
            var sums = _sums.AsSpan(offset, count);
            sums.Clear();
            RequireEnd(bytes[PackedSums.Add(bytes, sums)..]);
            Finish(offset, count);
            return;
        }

        var gradients = GradientsOf(offset, count);
        var length = BytesOf(gradients.Length, bytes);
        var slots = MemoryMarshal.AsBytes(SlotsIn(_slots.AsSpan(), offset, count));
        if (bytes.Length != length + slots.Length)
        {
            throw new InvalidDataException($"{bytes.Length} bytes instead of {length + slots.Length}");
        }

        if (_format.Wire == WireFormat.Bf16)
        {
            BFloat16s.Decode(bytes[..length], gradients);
        }
        else
        {
            bytes[..length].CopyTo(MemoryMarshal.AsBytes(gradients));
        }

        bytes[length..].CopyTo(slots);
    }

    private void FinishGradients(int begin, int end)
    {
        while (begin < end)
        {
            var chunk = begin / GradientNorm.ChunkLength;
            var next = Math.Min((chunk + 1) * GradientNorm.ChunkLength, end);
            var results = Gradients.Slice(begin, next - begin);
            var isWhole = begin % GradientNorm.ChunkLength == 0 && (next == _gradientLength || next % GradientNorm.ChunkLength == 0);
            if (HasIntegers && isWhole && _format.Wire == WireFormat.Fp32)
            {
                _squareSums[chunk] = FixedPoint.ToSingleAndSquares(_sums.AsSpan(begin, next - begin), results);
            }
            else
            {
                if (HasIntegers)
                {
                    FixedPoint.ToSingle(_sums.AsSpan(begin, next - begin), results);
                }

                if (_format.Wire == WireFormat.Bf16)
                {
                    BFloat16s.Round(results);
                }
            }

            begin = next;
        }
    }

    // Elements of a range that are gradients; the others are slots.
    private int GradientsIn(int offset, int count) => Math.Clamp(_gradientLength - offset, 0, count);

    private Span<float> GradientsOf(int offset, int count) => Gradients.Slice(Math.Min(offset, _gradientLength), GradientsIn(offset, count));

    private Span<T> SlotsIn<T>(Span<T> slots, int offset, int count)
    {
        var begin = Math.Max(0, offset - _gradientLength);
        return slots[Math.Min(begin, slots.Length)..Math.Max(0, offset + count - _gradientLength)];
    }

    private int BytesOf(int gradients, ReadOnlySpan<byte> bytes)
    {
        var length = gradients * (_format.Wire == WireFormat.Bf16 ? sizeof(ushort) : sizeof(float));
        return length <= bytes.Length ? length : throw new InvalidDataException($"{bytes.Length} bytes, which are too few for {gradients} numbers");
    }

    private int WriteFloats(ReadOnlySpan<float> values, Span<byte> destination)
    {
        if (_format.Wire == WireFormat.Bf16)
        {
            BFloat16s.Encode(values, destination[..(values.Length * sizeof(ushort))]);
            return values.Length * sizeof(ushort);
        }

        MemoryMarshal.AsBytes(values).CopyTo(destination);
        return values.Length * sizeof(float);
    }

    private static void RequireEnd(ReadOnlySpan<byte> rest)
    {
        if (rest.Length > 0)
        {
            throw new InvalidDataException($"{rest.Length} bytes too many");
        }
    }

    private static void AddFloats(ReadOnlySpan<byte> bytes, Span<float> sums)
    {
        ref var from = ref Unsafe.As<byte, float>(ref MemoryMarshal.GetReference(bytes));
        ref var sum = ref MemoryMarshal.GetReference(sums);
        nuint i = 0;
        for (; i + 16 <= (nuint)sums.Length; i += 16)
        {
            (Vector512.LoadUnsafe(ref from, i) + Vector512.LoadUnsafe(ref sum, i)).StoreUnsafe(ref sum, i);
        }

        for (; i < (nuint)sums.Length; i++)
        {
            Unsafe.Add(ref sum, i) += Unsafe.ReadUnaligned<float>(ref Unsafe.As<float, byte>(ref Unsafe.Add(ref from, i)));
        }
    }

    private static bool AreFinite(ReadOnlySpan<float> values)
    {
        var bad = Vector512<uint>.Zero;
        ref var value = ref Unsafe.As<float, uint>(ref MemoryMarshal.GetReference(values));
        var (magnitude, infinity) = (Vector512.Create(0x7FFFFFFFu), Vector512.Create(0x7F800000u));
        nuint i = 0;
        for (; i + 16 <= (nuint)values.Length; i += 16)
        {
            bad |= Vector512.GreaterThanOrEqual(Vector512.LoadUnsafe(ref value, i) & magnitude, infinity);
        }

        var finite = bad == Vector512<uint>.Zero;
        for (; i < (nuint)values.Length; i++)
        {
            finite &= (Unsafe.Add(ref value, i) & 0x7FFFFFFF) < 0x7F800000;
        }

        return finite;
    }
}
