namespace LlmPipeline.Text.Sources;

/// <summary>
/// Walks a structure in Thrift's compact protocol without making anything of it: to know, before a library allocates what it
/// declares, that every length in it fits into the bytes that are there.
/// </summary>
/// <param name="bytes">From the structure's first byte on.</param>
internal ref struct ThriftCompact(ReadOnlySpan<byte> bytes)
{
    private const int MaxDepth = 64;

    private readonly ReadOnlySpan<byte> _bytes = bytes;

    /// <summary>Bytes walked over.</summary>
    public int Position { get; private set; }

    /// <summary>Walks over a structure.</summary>
    /// <param name="integers">Takes the values of its own integer fields by their number, where they are below the length.</param>
    /// <returns>False where the bytes are no such structure.</returns>
    public bool TryReadStruct(scoped Span<long> integers) => TryReadStruct(integers, 0);

    private bool TryReadStruct(scoped Span<long> integers, int depth)
    {
        var id = 0L;
        while (depth < MaxDepth && TryReadByte(out var header))
        {
            if (header == 0)
            {
                return true;
            }

            var type = header & 0x0F;
            if (header >> 4 != 0)
            {
                id += header >> 4;
            }
            else if (TryReadVarint(out var next))
            {
                id = ZigZag(next);
            }
            else
            {
                return false;
            }

            if (type is 4 or 5 or 6)
            {
                if (!TryReadVarint(out var value))
                {
                    return false;
                }

                if (id >= 0 && id < integers.Length)
                {
                    integers[(int)id] = ZigZag(value);
                }
            }
            else if (!TrySkip(type, isElement: false, depth))
            {
                return false;
            }
        }

        return false;
    }

    private bool TrySkip(int type, bool isElement, int depth) => type switch
    {
        1 or 2 => !isElement || TryAdvance(1),
        3 => TryAdvance(1),
        4 or 5 or 6 => TryReadVarint(out _),
        7 => TryAdvance(8),
        8 => TryReadVarint(out var length) && TryAdvance(length),
        9 or 10 => TrySkipList(depth),
        11 => TrySkipMap(depth),
        12 => TryReadStruct([], depth + 1),
        _ => false,
    };

    private bool TrySkipList(int depth)
    {
        if (depth >= MaxDepth || !TryReadByte(out var header))
        {
            return false;
        }

        var count = (ulong)header >> 4;
        if (count == 15 && !TryReadVarint(out count))
        {
            return false;
        }

        // An element takes a byte at least.
        if (count > (ulong)(_bytes.Length - Position))
        {
            return false;
        }

        for (ulong i = 0; i < count; i++)
        {
            if (!TrySkip(header & 0x0F, isElement: true, depth + 1))
            {
                return false;
            }
        }

        return true;
    }

    private bool TrySkipMap(int depth)
    {
        if (depth >= MaxDepth || !TryReadVarint(out var count) || count > (ulong)(_bytes.Length - Position))
        {
            return false;
        }

        if (count == 0)
        {
            return true;
        }

        if (!TryReadByte(out var types))
        {
            return false;
        }

        for (ulong i = 0; i < count; i++)
        {
            if (!TrySkip(types >> 4, isElement: true, depth + 1) || !TrySkip(types & 0x0F, isElement: true, depth + 1))
            {
                return false;
            }
        }

        return true;
    }

    private bool TryReadByte(out byte value)
    {
        value = Position < _bytes.Length ? _bytes[Position] : (byte)0;
        return Position++ < _bytes.Length;
    }

    private bool TryReadVarint(out ulong value)
    {
        value = 0;
        for (var shift = 0; shift < 64; shift += 7)
        {
            if (!TryReadByte(out var part))
            {
                return false;
            }

            value |= (ulong)(part & 0x7F) << shift;
            if (part < 0x80)
            {
                return true;
            }
        }

        return false;
    }

    private bool TryAdvance(ulong count)
    {
        if (Position > _bytes.Length || count > (ulong)(_bytes.Length - Position))
        {
            return false;
        }

        Position += (int)count;
        return true;
    }

    private static long ZigZag(ulong value) => (long)(value >> 1) ^ -(long)(value & 1);
}
