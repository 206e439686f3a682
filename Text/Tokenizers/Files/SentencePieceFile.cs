using System.Buffers.Binary;
using System.Text;
using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>
/// SentencePiece's <c>.model</c> (google/sentencepiece, sentencepiece_model.proto), unigram and BPE. It becomes a <c>tokenizer.json</c> with
/// the same normalization table, scores and, for BPE, the merges that follow from them.
/// </summary>
internal static class SentencePieceFile
{
    private const int Unigram = 1, Bpe = 2;
    private const int Unknown = 2, Control = 3, UserDefined = 4, Unused = 5;
    private const char Blank = '\u2581';

    /// <exception cref="InvalidDataException">The message says at which byte.</exception>
    public static ITokenizer Read(ReadOnlyMemory<byte> file) => TokenizerFile.Parse(Convert(Model.Read(file)));

    private static string Convert(Model model)
    {
        var unknown = model.Pieces.FindIndex(p => p.Type == Unknown);
        if (model.Type is not (Unigram or Bpe))
        {
            throw new InvalidDataException($"the SentencePiece model has type {model.Type}: only unigram (1) and BPE (2) are supported.");
        }

        if (model.Pieces.FindIndex(p => p.Type == Unused) is >= 0 and var unused)
        {
            throw new InvalidDataException($"piece {unused} of the SentencePiece model is switched off, which is not supported.");
        }

        if (unknown < 0 && !model.ByteFallback)
        {
            throw new InvalidDataException("the SentencePiece model has no unknown piece.");
        }

        return TokenizerJson.Write(json =>
        {
            TokenizerJson.WriteAddedTokens(json, model.Pieces.Select((p, id) => (p.Text, id, p.Type)).Where(p => p.Type is Unknown or Control or UserDefined).Select(p => (p.Text, p.id, p.Type != UserDefined)));
            WriteNormalizer(json, model);
            WriteMetaspace(json, "pre_tokenizer", model, dummy: model.AddDummyPrefix && model.RemoveExtraSpaces);
            json.WriteNull("post_processor");
            PieceFiles.WriteDecoder(json, Blank, model.AddDummyPrefix);
            json.WriteStartObject("model");
            json.WriteString("type", model.Type == Unigram ? "Unigram" : "BPE");
            if (model.Type == Unigram)
            {
                WriteUnigram(json, model, unknown);
            }
            else
            {
                PieceFiles.WriteBpe(json, [.. model.Pieces.Select(p => p.Text)], [.. model.Pieces.Select(p => p.Score)], [.. model.Pieces.Select(p => p.Type == 1)], unknown < 0 ? null : model.Pieces[unknown].Text, model.ByteFallback);
            }

            json.WriteEndObject();
        });
    }

    private static void WriteUnigram(Utf8JsonWriter json, Model model, int unknown)
    {
        if (unknown < 0)
        {
            json.WriteNull("unk_id");
        }
        else
        {
            json.WriteNumber("unk_id", unknown);
        }

        json.WriteStartArray("vocab");
        foreach (var piece in model.Pieces)
        {
            json.WriteStartArray();
            json.WriteStringValue(piece.Text);
            json.WriteNumberValue((double)piece.Score);
            json.WriteEndArray();
        }

        json.WriteEndArray();
        json.WriteBoolean("byte_fallback", model.ByteFallback);
    }

    private static void WriteNormalizer(Utf8JsonWriter json, Model model)
    {
        json.WriteStartObject("normalizer");
        json.WriteString("type", "Sequence");
        json.WriteStartArray("normalizers");
        if (model.Normalization.Length > 0)
        {
            json.WriteStartObject();
            json.WriteString("type", "Precompiled");
            json.WriteBase64String("precompiled_charsmap", model.Normalization.Span);
            json.WriteEndObject();
        }

        if (model.RemoveExtraSpaces)
        {
            KindFiles.WriteReplace(json, "^ +| +$", "");
            KindFiles.WriteReplace(json, " {2,}", " ");
        }
        else if (model.AddDummyPrefix)
        {
            PieceFiles.WritePrepend(json, Blank.ToString());
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    // Text can be cut at blanks unless a piece goes beyond one.
    private static void WriteMetaspace(Utf8JsonWriter json, string name, Model model, bool dummy)
    {
        json.WriteStartObject(name);
        json.WriteString("type", "Metaspace");
        json.WriteString("replacement", Blank.ToString());
        json.WriteString("prepend_scheme", dummy ? "always" : "never");
        json.WriteBoolean("split", model.Pieces.All(p => p.Type != 1 || p.Text.LastIndexOf(Blank) <= 0));
        json.WriteEndObject();
    }

    /// <summary>What is used of the file.</summary>
    private sealed record Model
    {
        public List<(string Text, float Score, int Type)> Pieces { get; } = [];

        public int Type { get; private set; } = Unigram;

        public bool ByteFallback { get; private set; }

        public ReadOnlyMemory<byte> Normalization { get; private set; }

        public bool AddDummyPrefix { get; private set; } = true;

        public bool RemoveExtraSpaces { get; private set; } = true;

        public static Model Read(ReadOnlyMemory<byte> file)
        {
            var model = new Model();
            foreach (var field in ProtoField.ReadAll(file, 0))
            {
                switch (field.Number)
                {
                    case 1:
                        model.AddPiece(field);
                        break;
                    case 2:
                        foreach (var part in field.Message())
                        {
                            model.Type = part.Number == 3 ? (int)part.Value : model.Type;
                            model.ByteFallback |= part is { Number: 35, Value: not 0 };
                            if (part is { Number: 24, Value: not 0 })
                            {
                                throw new InvalidDataException($"byte {part.Offset}: the SentencePiece model has blanks behind words (treat_whitespace_as_suffix), which is not supported.");
                            }
                        }

                        break;
                    case 3:
                        foreach (var part in field.Message())
                        {
                            model.Normalization = part.Number == 2 ? part.Bytes() : model.Normalization;
                            model.AddDummyPrefix = part.Number == 3 ? part.Value != 0 : model.AddDummyPrefix;
                            model.RemoveExtraSpaces = part.Number == 4 ? part.Value != 0 : model.RemoveExtraSpaces;
                        }

                        break;
                }
            }

            return model.Pieces.Count > 0 ? model : throw new InvalidDataException("the file has no pieces: it is neither a SentencePiece model nor another tokenizer that is known.");
        }

        private void AddPiece(ProtoField field)
        {
            var (text, score, type) = ("", 0f, 1);
            foreach (var part in field.Message())
            {
                switch (part.Number)
                {
                    case 1:
                        text = part.Text();
                        break;
                    case 2:
                        score = BitConverter.Int32BitsToSingle((int)part.Value);
                        break;
                    case 3:
                        type = (int)part.Value;
                        break;
                }
            }

            if (text.Length == 0 || !float.IsFinite(score))
            {
                throw new InvalidDataException($"byte {field.Offset}: piece {Pieces.Count} of the SentencePiece model is empty, or its score is not a number.");
            }

            if (Pieces.Count >= JsonModels.MaxVocabularySize)
            {
                throw new InvalidDataException($"byte {field.Offset}: the SentencePiece model has more than {JsonModels.MaxVocabularySize} pieces.");
            }

            Pieces.Add((text, score, type));
        }
    }
}

/// <summary>A field of a protobuf message.</summary>
/// <param name="Number">Field number.</param>
/// <param name="Wire">Wire type.</param>
/// <param name="Value">A number, however wide.</param>
/// <param name="Content">Bytes of a length-delimited field.</param>
/// <param name="Offset">Where it begins in the file.</param>
internal readonly record struct ProtoField(int Number, int Wire, ulong Value, ReadOnlyMemory<byte> Content, long Offset)
{
    /// <summary>The fields of a message.</summary>
    /// <exception cref="InvalidDataException">The bytes are not a message; the message names the offset.</exception>
    public static IEnumerable<ProtoField> ReadAll(ReadOnlyMemory<byte> message, long offset)
    {
        for (var at = 0; at < message.Length;)
        {
            var begin = at;
            var key = Varint(message.Span, ref at, offset);
            var (number, wire) = ((int)(key >> 3), (int)(key & 7));
            if (key >> 3 is 0 or > 0x1FFFFFFF)
            {
                throw Damaged(offset + begin);
            }

            var (value, length) = wire switch
            {
                0 => (Varint(message.Span, ref at, offset), 0L),
                1 => (Fixed(message.Span, ref at, 8, offset), 0L),
                2 => (0UL, (long)Math.Min(Varint(message.Span, ref at, offset), long.MaxValue)),
                5 => (Fixed(message.Span, ref at, 4, offset), 0L),
                _ => throw Damaged(offset + begin),
            };
            if (length > message.Length - at)
            {
                throw Damaged(offset + begin);
            }

            yield return new ProtoField(number, wire, value, message.Slice(at, (int)length), offset + at);
            at += (int)length;
        }
    }

    /// <summary>The content of a message, text or bytes field.</summary>
    public ReadOnlyMemory<byte> Bytes() => Wire == 2 ? Content : throw Damaged(Offset);

    /// <summary>The fields of a message field.</summary>
    public IEnumerable<ProtoField> Message() => ReadAll(Bytes(), Offset);

    /// <summary>The text of a text field.</summary>
    public string Text() => System.Text.Unicode.Utf8.IsValid(Bytes().Span) ? Encoding.UTF8.GetString(Content.Span) : throw Damaged(Offset);

    private static ulong Varint(ReadOnlySpan<byte> bytes, ref int at, long offset)
    {
        ulong value = 0;
        for (var shift = 0; shift < 64 && at < bytes.Length; shift += 7)
        {
            var b = bytes[at++];
            value |= (ulong)(b & 0x7F) << shift;
            if (b < 0x80)
            {
                return value;
            }
        }

        throw Damaged(offset + at);
    }

    private static ulong Fixed(ReadOnlySpan<byte> bytes, ref int at, int size, long offset)
    {
        if (bytes.Length - at < size)
        {
            throw Damaged(offset + at);
        }

        at += size;
        return size == 4 ? BinaryPrimitives.ReadUInt32LittleEndian(bytes[(at - 4)..]) : BinaryPrimitives.ReadUInt64LittleEndian(bytes[(at - 8)..]);
    }

    private static InvalidDataException Damaged(long offset) => new($"byte {offset}: the file is not a SentencePiece model or is damaged there, and it is no other tokenizer that is known.");
}
