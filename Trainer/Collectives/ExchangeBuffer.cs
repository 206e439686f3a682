using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// What one all-reduce sums: gradients, as fixed-point integers or as fp32, followed by slots of 32 raw bits, which are always
/// integers. Made once, used for every step.
/// </summary>
/// <remarks>
/// In exact mode the last addend of a share stays where it is, in fp32, and becomes integers on its way to the wire: a share of one
/// micro-batch needs no memory for integers, and none is read or written for the last of several.
/// </remarks>
internal sealed class ExchangeBuffer
{
    private readonly Func<Span<float>> _gradients;
    private readonly int _gradientLength;
    private readonly ExchangeFormat _format;
    private readonly long[] _slotSums;
    private readonly uint[] _slots;

    // Of each chunk of the summed gradient; not a number where it is not known yet.
    private readonly double[] _squareSums;

    // Of the gradients in exact mode: this worker's addends but the last, and partial sums on their way. Made when it is needed.
    private long[] _sums = [];
    private bool _hasSums;
    private bool _hasAddend;

    /// <summary>Makes a buffer.</summary>
    /// <param name="gradientLength">Number of gradient elements; may be 0.</param>
    /// <param name="slotCount">Number of slots.</param>
    /// <param name="gradients">Where summed gradients go: the buffer that micro-batches leave theirs in, or, with null, one of its own.</param>
    /// <param name="format">How gradients are summed and sent; exact by default.</param>
    public ExchangeBuffer(int gradientLength, int slotCount, Func<Span<float>>? gradients = null, ExchangeFormat format = default)
    {
        var own = gradients is null ? new float[gradientLength] : [];
        _gradients = gradients ?? (() => own);
        _gradientLength = gradientLength;
        _format = format;
        _slotSums = new long[slotCount];
        _slots = new uint[slotCount];
        _squareSums = new double[GradientNorm.ChunkCount(gradientLength)];
    }

    /// <summary>How gradients are summed and sent.</summary>
    public ExchangeFormat Format => _format;

    /// <summary>All elements.</summary>
    public int Length => _gradientLength + _slots.Length;

    /// <summary>The integers of this worker's share, in exact mode, to add to.</summary>
    public Span<long> Sums
    {
        get
        {
            var sums = Integers();
            if (!_hasSums)
            {
                Array.Clear(sums);
                _hasSums = true;
            }

            return sums;
        }
    }

    /// <summary>After the exchange: the summed gradient. Before, the last addend of this worker's share; in plain mode all of it.</summary>
    public Span<float> Gradients => _gradients();

    private int BytesOfFloat => _format.Wire == WireFormat.Bf16 ? sizeof(ushort) : sizeof(float);

    private bool IsExact => _format.Mode == SumMode.Exact;

    /// <summary>Sets this worker's share to 0, but for the gradients of plain mode, which are in <see cref="Gradients"/>.</summary>
    public void Clear()
    {
        (_hasSums, _hasAddend) = (false, false);
        Array.Clear(_slotSums);
        Array.Fill(_squareSums, double.NaN);
    }

    /// <summary>Adds the gradient of a micro-batch to this worker's share, in exact mode, and sets it to 0.</summary>
    /// <param name="gradients">All elements.</param>
    /// <param name="limit">See <see cref="FixedPoint.LimitFor"/>.</param>
    /// <returns>False when an element is not finite or too large.</returns>
    public bool Add(Span<float> gradients, float limit)
    {
        var overwrite = !_hasSums;
        _hasSums = true;
        return FixedPoint.AddAndClear(gradients, Integers(), overwrite, limit);
    }

    /// <summary>
    /// Takes a range of <see cref="Gradients"/>, that of the last micro-batch, as a part of this worker's share. It stays where it is
    /// until the exchange, rounded in exact mode, and only looked at in plain mode. All ranges have to be taken.
    /// </summary>
    /// <param name="offset">First element.</param>
    /// <param name="length">Number of elements.</param>
    /// <param name="limit">See <see cref="FixedPoint.LimitFor"/>.</param>
    /// <returns>False when an element is not finite or, in exact mode, too large.</returns>
    public bool AddLast(int offset, int length, float limit)
    {
        var gradients = Gradients.Slice(offset, length);
        _hasAddend = true;
        return IsExact ? FixedPoint.Round(gradients, limit) : AreFinite(gradients);
    }

    /// <summary>Adds a count to a slot; counts of all workers are summed.</summary>
    public void AddCount(int slot, int count) => _slotSums[slot] += count;

    /// <summary>Fills a slot; exactly one worker may fill it.</summary>
    public void Set(int slot, float value) => _slotSums[slot] = BitConverter.SingleToUInt32Bits(value);

    /// <summary>Fills two slots; exactly one worker may fill them.</summary>
    public void Set(int slot, double value)
    {
        var bits = BitConverter.DoubleToUInt64Bits(value);
        _slotSums[slot] = (uint)bits;
        _slotSums[slot + 1] = (uint)(bits >> 32);
    }

    /// <summary>After the exchange: the sum of a slot's counts.</summary>
    public int Count(int slot) => (int)_slots[slot];

    /// <summary>After the exchange: a slot's value.</summary>
    public float Single(int slot) => BitConverter.UInt32BitsToSingle(_slots[slot]);

    /// <summary>After the exchange: the value of two slots.</summary>
    public double Double(int slot) => BitConverter.UInt64BitsToDouble(_slots[slot] | ((ulong)_slots[slot + 1] << 32));

    /// <summary>Turns this worker's share into the results: there is no other worker.</summary>
    public void Finish()
    {
        Span<long> block = stackalloc long[PackedSums.BlockLength];
        var isRounded = !IsExact || (_hasAddend && !_hasSums);
        for (var offset = 0; offset < _gradientLength; offset += GradientNorm.ChunkLength)
        {
            var length = Math.Min(GradientNorm.ChunkLength, _gradientLength - offset);
            for (var at = 0; !isRounded && at < length; at += block.Length)
            {
                var sums = block[..Math.Min(block.Length, length - at)];
                Load(offset + at, sums, isPartial: false);
                Finish(offset + at, sums);
            }

            RoundAndSquare(offset, length);
        }

        Finish(_gradientLength, _slotSums);
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

    /// <summary>Room that what is written of a range of elements wants.</summary>
    public int MaxBytes(int offset, int count)
    {
        var gradients = IsExact ? 0 : GradientsIn(offset, count);
        return (gradients * BytesOfFloat) + PackedSums.MaxBytes(count - gradients);
    }

    /// <summary>Writes sums of a range of elements.</summary>
    /// <param name="offset">First element.</param>
    /// <param name="count">Number of elements.</param>
    /// <param name="destination">At least <see cref="MaxBytes"/>.</param>
    /// <param name="isPartial">Those that <see cref="AddSums"/> made, in place of this worker's share.</param>
    /// <returns>Bytes that were written.</returns>
    public int WriteSums(int offset, int count, Span<byte> destination, bool isPartial)
    {
        if (!IsExact)
        {
            var floats = WriteFloats(GradientsOf(offset, count), destination);
            return floats + PackedSums.Pack(SlotsIn(_slotSums.AsSpan(), offset, count), destination[floats..]);
        }

        Span<long> block = stackalloc long[PackedSums.BlockLength];
        var written = 0;
        for (var at = 0; at < count; at += block.Length)
        {
            var sums = block[..Math.Min(block.Length, count - at)];
            Load(offset + at, sums, isPartial);
            written += PackedSums.Pack(sums, destination[written..]);
        }

        return written;
    }

    /// <summary>Adds this worker's share to the sums of the workers before it.</summary>
    /// <param name="offset">First element.</param>
    /// <param name="count">Number of elements.</param>
    /// <param name="bytes">The others' sums.</param>
    /// <param name="isComplete">All workers are in it now: the sums become results.</param>
    /// <exception cref="InvalidDataException">The bytes are not those of such sums.</exception>
    public void AddSums(int offset, int count, ReadOnlySpan<byte> bytes, bool isComplete)
    {
        if (IsExact)
        {
            RequireEnd(bytes[AddIntegers(offset, count, bytes, isComplete, withShare: true)..]);
        }
        else
        {
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

            var slots = SlotsIn(_slotSums.AsSpan(), offset, count);
            RequireEnd(bytes[(length + PackedSums.Add(bytes[length..], slots))..]);
            if (isComplete)
            {
                Finish(offset + sums.Length, slots);
            }
        }

        if (isComplete)
        {
            RoundAndSquare(offset, count);
        }
    }

    /// <summary>Writes results of a range of elements.</summary>
    /// <returns>Bytes that were written.</returns>
    public int WriteResults(int offset, int count, Span<byte> destination)
    {
        if (_format.Wire == WireFormat.Integers)
        {
            return WriteSums(offset, count, destination, isPartial: true);
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
            RequireEnd(bytes[AddIntegers(offset, count, bytes, isComplete: true, withShare: false)..]);
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

    private long[] Integers()
    {
        if (!IsExact)
        {
            throw new InvalidOperationException("The gradients are no integers.");
        }

        return _sums.Length == _gradientLength ? _sums : _sums = GC.AllocateUninitializedArray<long>(_gradientLength);
    }

    // Adds what came to this worker's share, or takes it for what it is. Sums that are sent on as integers are kept.
    private int AddIntegers(int offset, int count, ReadOnlySpan<byte> bytes, bool isComplete, bool withShare)
    {
        var isKept = !isComplete || _format.Wire == WireFormat.Integers;
        Span<long> block = stackalloc long[PackedSums.BlockLength];
        var read = 0;
        for (var at = 0; at < count; at += block.Length)
        {
            var sums = block[..Math.Min(block.Length, count - at)];
            if (withShare)
            {
                Load(offset + at, sums, isPartial: false);
            }
            else
            {
                sums.Clear();
            }

            read += PackedSums.Add(bytes[read..], sums);
            if (isKept)
            {
                var gradients = GradientsIn(offset + at, sums.Length);
                sums[..gradients].CopyTo(Integers().AsSpan(Math.Min(offset + at, _gradientLength)));
                sums[gradients..].CopyTo(SlotsIn(_slotSums.AsSpan(), offset + at, sums.Length));
            }

            if (isComplete)
            {
                Finish(offset + at, sums);
            }
        }

        return read;
    }

    // This worker's share of some elements, or the partial sums on their way.
    private void Load(int offset, Span<long> sums, bool isPartial)
    {
        var gradients = GradientsIn(offset, sums.Length);
        SlotsIn(_slotSums.AsSpan(), offset, sums.Length).CopyTo(sums[gradients..]);
        if (gradients == 0)
        {
            return;
        }

        sums = sums[..gradients];
        if (_hasSums || isPartial)
        {
            _sums.AsSpan(offset, gradients).CopyTo(sums);
        }

        if (_hasAddend && !isPartial)
        {
            FixedPoint.Add(Gradients.Slice(offset, gradients), sums, overwrite: !_hasSums, float.PositiveInfinity);
        }
        else if (!_hasSums && !isPartial)
        {
            sums.Clear();
        }
    }

    // Complete sums of some elements become results.
    private void Finish(int offset, ReadOnlySpan<long> sums)
    {
        var gradients = GradientsIn(offset, sums.Length);
        if (gradients > 0)
        {
            FixedPoint.ToSingle(sums[..gradients], Gradients.Slice(offset, gradients));
        }

        var slots = SlotsIn(_slots.AsSpan(), offset, sums.Length);
        for (var i = 0; i < slots.Length; i++)
        {
            slots[i] = (uint)sums[gradients + i];
        }
    }

    // What comes after the sum, while it is in the processor's cache.
    private void RoundAndSquare(int offset, int count)
    {
        var results = GradientsOf(offset, count);
        if (_format.Wire == WireFormat.Bf16)
        {
            BFloat16s.Round(results);
        }

        for (var chunk = (offset + GradientNorm.ChunkLength - 1) / GradientNorm.ChunkLength; chunk < _squareSums.Length; chunk++)
        {
            var begin = chunk * GradientNorm.ChunkLength;
            var end = Math.Min(begin + GradientNorm.ChunkLength, _gradientLength);
            if (end > offset + results.Length)
            {
                break;
            }

            _squareSums[chunk] = GradientNorm.SumOfSquares(results[(begin - offset)..(end - offset)]);
        }
    }

    // Elements of a range that are gradients; the others are slots.
    private int GradientsIn(int offset, int count) => Math.Clamp(_gradientLength - offset, 0, count);

    private Span<float> GradientsOf(int offset, int count) => GradientsIn(offset, count) is var length and > 0 ? Gradients.Slice(offset, length) : [];

    private Span<T> SlotsIn<T>(Span<T> slots, int offset, int count)
    {
        var begin = Math.Max(0, offset - _gradientLength);
        return slots[Math.Min(begin, slots.Length)..Math.Max(0, offset + count - _gradientLength)];
    }

    private int BytesOf(int gradients, ReadOnlySpan<byte> bytes)
    {
        var length = gradients * BytesOfFloat;
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
