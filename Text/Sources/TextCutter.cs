namespace LlmPipeline.Text.Sources;

/// <summary>Cuts a text of any length into documents while it is read, as <see cref="TextCut"/> says; holds some 8 MiB of it.</summary>
/// <param name="firstStep">The step of the text that the bytes begin at. What comes before the first cut belongs to another reader.</param>
/// <param name="lengthHint">Bytes to expect; 0 where they are not known.</param>
internal sealed class TextCutter(long firstStep = 0, long lengthHint = 0)
{
    // One byte more than a document has, to see whether the text goes on.
    private const int Capacity = TextCut.MaxBytes + 1;

    private byte[] _bytes = new byte[Math.Clamp(lengthHint + 1, 1, Capacity)];
    private int _count;
    private long _step = firstStep;
    private bool _atCut = firstStep == 0;
    private bool _complete;

    /// <summary>Position of the next document in the text.</summary>
    public long Position { get; private set; } = firstStep * TextCut.StepBytes;

    /// <summary>The step after the one in which the next document begins.</summary>
    public long NextStep => _step + 1;

    /// <summary>Where further bytes go; not empty after <see cref="TryTake"/> returned false.</summary>
    public Span<byte> Space
    {
        get
        {
            if (_count == _bytes.Length && _count < Capacity)
            {
                Array.Resize(ref _bytes, (int)Math.Min(Capacity, Math.Max(_count * 2L, 1 << 12)));
            }

            return _bytes.AsSpan(_count);
        }
    }

    /// <summary>Says how many bytes were put into <see cref="Space"/>.</summary>
    public void Advance(int count) => _count += count;

    /// <summary>Adds bytes. Documents are to be taken now and then, for memory to stay bounded.</summary>
    public void Append(ReadOnlySpan<byte> bytes)
    {
        if (_bytes.Length - _count < bytes.Length)
        {
            Array.Resize(ref _bytes, Math.Max(_count + bytes.Length, Math.Min(_bytes.Length * 2, _bytes.Length + (2 << 20))));
        }

        bytes.CopyTo(_bytes.AsSpan(_count));
        _count += bytes.Length;
    }

    /// <summary>Says that no bytes follow.</summary>
    public void Complete() => _complete = true;

    /// <summary>The next document, once all of it was given; an empty one is left out.</summary>
    public bool TryTake(out ReadOnlyMemory<byte> document)
    {
        document = default;
        if (!_atCut)
        {
            if (_count < TextCut.WindowBytes && !_complete)
            {
                return false;
            }

            Drop(TextCut.Find(_bytes.AsSpan(0, _count)));
            _atCut = true;
        }

        if (_count == 0)
        {
            return false;
        }

        // A whole text that is short enough is one document.
        var stepAt = ((_step + 1) * TextCut.StepBytes) - Position;
        var isLast = _complete && (stepAt >= _count || (_step == 0 && _count <= TextCut.MaxBytes));
        if (isLast)
        {
            document = _bytes.AsMemory(0, _count);
            _bytes = [];
            Position += _count;
            _count = 0;
            _step++;
            return true;
        }

        if (_count <= stepAt + TextCut.WindowBytes && !_complete)
        {
            return false;
        }

        var length = (int)stepAt + TextCut.Find(_bytes.AsSpan((int)stepAt, _count - (int)stepAt));
        document = _bytes.AsMemory(0, length);
        var rest = new byte[Capacity];
        _bytes.AsSpan(length, _count - length).CopyTo(rest);
        _bytes = rest;
        _count -= length;
        Position += length;
        _step++;
        return true;
    }

    private void Drop(int length)
    {
        _bytes.AsSpan(length, _count - length).CopyTo(_bytes);
        _count -= length;
        Position += length;
    }
}
