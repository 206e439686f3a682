using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace LlmPipeline.Text;

/// <summary>Appends the ids of words to a list, straight into its room.</summary>
internal ref struct BpeIdSink : IWordSink
{
    private readonly BpeEncoder _encoder;
    private readonly List<int> _ids;
    private Span<int> _room;
    private int _count;

    /// <param name="encoder">Makes the ids.</param>
    /// <param name="ids">Takes them; its length is right after <see cref="End"/>.</param>
    /// <param name="bytes">Length of the text: a guess at the number of ids.</param>
    public BpeIdSink(BpeEncoder encoder, List<int> ids, int bytes)
    {
        (_encoder, _ids, _count) = (encoder, ids, ids.Count);
        MakeRoom((bytes / 3) + BpeEncoder.Slack);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Add(ReadOnlySpan<byte> utf8, int start, int end)
    {
        if (_room.Length - _count < end - start + BpeEncoder.Slack)
        {
            MakeRoom(end - start + BpeEncoder.Slack);
        }

        _count += _encoder.Encode(utf8, start, end, _room[_count..]);
    }

    public readonly void End() => CollectionsMarshal.SetCount(_ids, _count);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void MakeRoom(int count)
    {
        _ids.EnsureCapacity(_count + count);
        CollectionsMarshal.SetCount(_ids, _ids.Capacity);
        _room = CollectionsMarshal.AsSpan(_ids);
    }
}

/// <summary>Appends the tokens of words with their places.</summary>
internal readonly struct BpeSpanSink(BpeEncoder encoder, TokenTable table, List<TokenSpan> tokens) : IWordSink
{
    private readonly List<int> _ids = [];

    public void Add(ReadOnlySpan<byte> utf8, int start, int end)
    {
        CollectionsMarshal.SetCount(_ids, Math.Max(_ids.Count, end - start + BpeEncoder.Slack));
        var ids = CollectionsMarshal.AsSpan(_ids);
        foreach (var id in ids[..encoder.Encode(utf8, start, end, ids)])
        {
            tokens.Add(new TokenSpan(id, start, start += table.BytesOf(id).Length));
        }
    }
}
