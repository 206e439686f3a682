using System.Text;

namespace LlmPipeline.Text;

/// <summary>Cuts a text into the pieces that a model encodes one by one.</summary>
internal abstract class PreTokenizer
{
    /// <summary>Appends the parts of a piece that is not empty.</summary>
    public abstract void Split(Piece piece, List<Piece> parts);
}

/// <summary>Each cuts what the one before it left.</summary>
internal sealed class PreTokenizerSequence(IReadOnlyList<PreTokenizer> steps) : PreTokenizer
{
    public override void Split(Piece piece, List<Piece> parts)
    {
        List<Piece> current = [piece];
        foreach (var step in steps)
        {
            var next = new List<Piece>();
            foreach (var part in current)
            {
                step.Split(part, next);
            }

            current = next;
        }

        parts.AddRange(current);
    }
}

/// <summary>Cuts from left to right.</summary>
internal sealed class ScanningPreTokenizer(FirstPart firstPart) : PreTokenizer
{
    public FirstPart FirstPart { get; } = firstPart;

    public override void Split(Piece piece, List<Piece> parts)
    {
        for (var at = 0; at < piece.Length;)
        {
            var length = FirstPart(piece.Span[at..], out var isWord);
            if (isWord)
            {
                parts.Add(piece.Slice(at, length));
            }

            at += length;
        }
    }
}

/// <summary>What happens to the parts that a delimiter matches.</summary>
internal enum SplitBehavior
{
    Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous,
}

/// <summary>Cuts at delimiters.</summary>
/// <param name="matches">Appends the delimiters of a text, in order: start and length.</param>
/// <param name="behavior">What becomes of them.</param>
/// <param name="invert">Whether the delimiters are what does not match.</param>
internal sealed class DelimiterPreTokenizer(Action<string, List<(int Start, int Length)>> matches, SplitBehavior behavior, bool invert = false) : PreTokenizer
{
    public override void Split(Piece piece, List<Piece> parts)
    {
        var found = new List<(int Start, int Length)>();
        matches(piece.Span.ToString(), found);
        var sections = new List<(int Start, int Length, bool Delimiter)>();
        var at = 0;
        foreach (var (start, length) in found)
        {
            Add(at, start - at, invert);
            Add(start, length, !invert);
            at = start + length;
        }

        Add(at, piece.Length - at, invert);
        Merge(sections);
        parts.AddRange(sections.Where(s => s.Length > 0 && !(s.Delimiter && behavior == SplitBehavior.Removed)).Select(s => piece.Slice(s.Start, s.Length)));

        void Add(int start, int length, bool delimiter)
        {
            if (length > 0)
            {
                sections.Add((start, length, delimiter));
            }
        }
    }

    private void Merge(List<(int Start, int Length, bool Delimiter)> sections)
    {
        for (var i = 1; i < sections.Count; i++)
        {
            var (left, right) = (sections[i - 1], sections[i]);
            var join = behavior switch
            {
                SplitBehavior.MergedWithPrevious => right.Delimiter && !left.Delimiter,
                SplitBehavior.MergedWithNext => left.Delimiter && !right.Delimiter,
                SplitBehavior.Contiguous => left.Delimiter == right.Delimiter,
                _ => false,
            };
            if (join)
            {
                // A merged pair counts as what it was merged for, so that a third part does not join it.
                sections[i - 1] = (left.Start, left.Length + right.Length, behavior != SplitBehavior.MergedWithNext && right.Delimiter);
                sections.RemoveAt(i--);
            }
        }
    }
}

/// <summary>Where a space is put before a text.</summary>
internal enum PrependScheme
{
    Always, First, Never,
}

/// <summary>SentencePiece's spaces: each becomes a visible character, which begins a piece.</summary>
internal sealed class MetaspacePreTokenizer(char replacement, PrependScheme scheme, bool split) : PreTokenizer
{
    public override void Split(Piece piece, List<Piece> parts)
    {
        var builder = new AlignedTextBuilder(piece.Length + 1);
        var begin = piece.Text.BeginOf(piece.Start);
        if ((scheme == PrependScheme.Always || (scheme == PrependScheme.First && begin == 0)) && piece.Span[0] is var first && first != ' ' && first != replacement)
        {
            builder.Append(replacement, begin, begin);
        }

        for (var i = piece.Start; i < piece.Start + piece.Length; i++)
        {
            builder.Append(piece.Text.Span[i] == ' ' ? replacement : piece.Text.Span[i], piece.Text.BeginOf(i), piece.Text.EndOf(i));
        }

        var whole = builder.ToText().Whole;
        if (!split)
        {
            parts.Add(whole);
            return;
        }

        var start = 0;
        for (var i = 1; i <= whole.Length; i++)
        {
            if (i == whole.Length || whole.Span[i] == replacement)
            {
                parts.Add(whole.Slice(start, i - start));
                start = i;
            }
        }
    }
}

/// <summary>Bytes as GPT-2's printable characters, after its splitting.</summary>
internal sealed class ByteLevelPreTokenizer(bool addPrefixSpace, bool split) : PreTokenizer
{
    public override void Split(Piece piece, List<Piece> parts)
    {
        var builder = new AlignedTextBuilder(piece.Length + 1);
        if (addPrefixSpace && piece.Span[0] != ' ')
        {
            builder.Append(' ', piece.Text.BeginOf(piece.Start), piece.Text.BeginOf(piece.Start));
        }

        builder.Append(piece.Text, piece.Start, piece.Length);
        var text = builder.ToText();
        var utf8 = new byte[Encoding.UTF8.GetMaxByteCount(text.Length)];
        var bytes = new AlignedTextBuilder(utf8.Length);
        var written = 0;
        for (var i = 0; i < text.Length;)
        {
            Rune.DecodeFromUtf16(text.Span[i..], out var rune, out var length);
            var count = rune.EncodeToUtf8(utf8.AsSpan(written));
            bytes.Append(ByteAlphabet.Write(utf8.AsSpan(written, count)), text.BeginOf(i), text.EndOf(i + length - 1));
            written += count;
            i += length;
        }

        var whole = bytes.ToText().Whole;
        if (!split)
        {
            parts.Add(whole);
            return;
        }

        // A byte is a char of the alphabet: places in the one are places in the other.
        var sink = new Words(whole, parts);
        WordSplitter.Gpt2.Split(utf8.AsSpan(0, written), ref sink);
    }

    private readonly struct Words(Piece whole, List<Piece> parts) : IWordSink
    {
        public void Add(ReadOnlySpan<byte> utf8, int start, int end) => parts.Add(whole.Slice(start, end - start));
    }
}
