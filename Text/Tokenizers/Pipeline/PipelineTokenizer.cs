using System.Buffers;
using System.Text;
using System.Text.RegularExpressions;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text;

/// <summary>The parts of a tokenizer.</summary>
internal sealed record TokenizerParts
{
    /// <summary>See <see cref="ITokenizer.Kind"/>.</summary>
    public required string Kind { get; init; }

    /// <summary>Null leaves text as it is.</summary>
    public Normalizer? Normalizer { get; init; }

    /// <summary>Null leaves text in one piece.</summary>
    public PreTokenizer? PreTokenizer { get; init; }

    /// <summary>Pieces to ids.</summary>
    public required TokenModel Model { get; init; }

    /// <summary>Ids to bytes.</summary>
    public required TokenDecoder Decoder { get; init; }

    /// <summary>Added tokens that text may hold.</summary>
    public required AddedTokens AddedTokens { get; init; }

    /// <summary>Id of the end of text.</summary>
    public required int EndOfTextId { get; init; }

    /// <summary>Id of unknown text; null where there is none.</summary>
    public int? UnknownId { get; init; }

    /// <summary>Special tokens and their ids.</summary>
    public required IReadOnlyDictionary<string, int> SpecialIds { get; init; }
}

/// <summary>A tokenizer as a <c>tokenizer.json</c> describes it: normalizer, pre-tokenizer, model, decoder.</summary>
internal sealed class PipelineTokenizer : ITokenizer
{
    private readonly TokenizerParts _parts;
    private readonly string _json;

    public PipelineTokenizer(TokenizerParts parts, string json)
    {
        (_parts, _json) = (parts, json);
        Hash = TokenTable.HashOf(json);
    }

    /// <inheritdoc/>
    public string Kind => _parts.Kind;

    /// <inheritdoc/>
    public int VocabularySize => _parts.Decoder.Count;

    /// <inheritdoc/>
    public int EndOfTextId => _parts.EndOfTextId;

    /// <inheritdoc/>
    public int? UnknownId => _parts.UnknownId;

    /// <inheritdoc/>
    public string Hash { get; }

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, int> SpecialIds => _parts.SpecialIds;

    // The kinds of this project: nothing to change, nothing to look for.
    private FirstPart? Scanner => _parts is { Normalizer: null, AddedTokens.IsEmpty: true, PreTokenizer: ScanningPreTokenizer scanning } ? scanning.FirstPart : null;

    /// <inheritdoc/>
    public void Encode(ReadOnlySpan<byte> utf8, List<int> ids)
    {
        var chars = ArrayPool<char>.Shared.Rent(Encoding.UTF8.GetMaxCharCount(utf8.Length));
        try
        {
            var length = Encoding.UTF8.GetChars(utf8, chars);
            if (Scanner is { } firstPart)
            {
                Scan(chars.AsSpan(0, length), firstPart, ids);
            }
            else
            {
                Encode(chars.AsMemory(0, length), ids, ranges: null);
            }
        }
        catch (RegexMatchTimeoutException exception)
        {
            throw TookTooLong(exception);
        }
        finally
        {
            ArrayPool<char>.Shared.Return(chars);
        }
    }

    /// <inheritdoc/>
    public void EncodeWithOffsets(ReadOnlySpan<byte> utf8, List<TokenSpan> tokens)
    {
        Utf8Text.RequireValid(utf8, nameof(utf8));
        var chars = Encoding.UTF8.GetString(utf8);
        var byteOf = new int[chars.Length + 1]; // first byte of each char
        for (int i = 0, at = 0; i < chars.Length;)
        {
            Rune.DecodeFromUtf16(chars.AsSpan(i), out var rune, out var length);
            byteOf.AsSpan(i, length).Fill(at);
            at += rune.Utf8SequenceLength;
            i += length;
            byteOf[i] = at;
        }

        var (ids, ranges) = (new List<int>(), new List<(int Begin, int End)>());
        try
        {
            Encode(chars.AsMemory(), ids, ranges);
        }
        catch (RegexMatchTimeoutException exception)
        {
            throw TookTooLong(exception);
        }

        var last = 0;
        for (var i = 0; i < ids.Count; i++)
        {
            // Normalization may give several tokens the same source: the first has it, the others stand at its end.
            var begin = Math.Max(last, byteOf[ranges[i].Begin]);
            last = Math.Max(begin, byteOf[ranges[i].End]);
            tokens.Add(new TokenSpan(ids[i], begin, last));
        }
    }

    /// <inheritdoc/>
    public int LastSafeCut(ReadOnlySpan<byte> utf8) => Scanner is { } firstPart ? TextSplitter.LastSafeCut(utf8, firstPart) : 0;

    /// <summary>Appends ids and the ranges of the source that they come from, in chars.</summary>
    public void Encode(ReadOnlyMemory<char> text, List<int> ids, List<(int Begin, int End)>? ranges)
    {
        foreach (var section in _parts.AddedTokens.CutRaw(new AlignedText(text).Whole))
        {
            if (section.Id is { } id)
            {
                Add(section.Piece, id, ids, ranges);
                continue;
            }

            var piece = section.Piece;
            if (_parts.Normalizer is { } normalizer)
            {
                var builder = new AlignedTextBuilder(piece.Length);
                builder.Append(piece.Text, piece.Start, piece.Length);
                piece = normalizer.Apply(builder.ToText()).Whole;
            }

            foreach (var part in _parts.AddedTokens.CutNormalized(piece))
            {
                if (part.Id is { } added)
                {
                    Add(part.Piece, added, ids, ranges);
                }
                else if (part.Piece.Length > 0)
                {
                    EncodePiece(part.Piece, ids, ranges);
                }
            }
        }
    }

    /// <inheritdoc/>
    public ReadOnlySpan<byte> BytesOf(int id) => _parts.Decoder.BytesOf(id);

    /// <inheritdoc/>
    public ReadOnlySpan<byte> BytesAfter(int previous, int id) => _parts.Decoder.BytesAfter(previous, id);

    /// <inheritdoc/>
    public string Decode(ReadOnlySpan<int> ids)
    {
        var bytes = new ArrayBufferWriter<byte>(4 * ids.Length + 1);
        var previous = -1;
        foreach (var id in ids)
        {
            bytes.Write(_parts.Decoder.BytesAfter(previous, id));
            previous = _parts.Decoder.BytesOf(id).IsEmpty ? previous : id;
        }

        return Encoding.UTF8.GetString(bytes.WrittenSpan);
    }

    /// <inheritdoc/>
    public string ToJson() => _json;

    private static InvalidDataException TookTooLong(RegexMatchTimeoutException exception) =>
        new($"The pattern {JsonPart.Quote(exception.Pattern)} of the tokenizer took too long on a text: use one that does not try the same characters again and again.", exception);

    private void Scan(ReadOnlySpan<char> text, FirstPart firstPart, List<int> ids)
    {
        while (!text.IsEmpty)
        {
            var length = firstPart(text, out var isWord);
            if (isWord)
            {
                _parts.Model.Encode(text[..length], ids, ranges: null);
            }

            text = text[length..];
        }
    }

    private static void Add(Piece piece, int id, List<int> ids, List<(int Begin, int End)>? ranges)
    {
        ids.Add(id);
        ranges?.Add(piece.SourceOf(0, piece.Length));
    }

    private void EncodePiece(Piece piece, List<int> ids, List<(int Begin, int End)>? ranges)
    {
        var pieces = new List<Piece>();
        if (_parts.PreTokenizer is { } preTokenizer)
        {
            preTokenizer.Split(piece, pieces);
        }
        else
        {
            pieces.Add(piece);
        }

        var found = ranges is null ? null : new List<(int Start, int Length)>();
        foreach (var part in pieces)
        {
            found?.Clear();
            _parts.Model.Encode(part.Span, ids, found);
            foreach (var (start, length) in found ?? [])
            {
                ranges!.Add(part.SourceOf(start, length));
            }
        }
    }
}
