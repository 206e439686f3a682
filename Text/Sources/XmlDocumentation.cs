using System.Buffers;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Xml;

namespace LlmPipeline.Text.Sources;

/// <summary>Turns XML documentation into readable text, a document a type.</summary>
/// <remarks>
/// <code>
/// # System.Version
/// Represents the version number of an assembly.
///
/// ## Parse(String)
/// Converts the string representation of a version number to an equivalent Version object.
/// input: A string that contains a version number to convert.
/// Returns: An object that is equivalent to the version number specified in the input parameter.
/// </code>
/// </remarks>
internal static class XmlDocumentation
{
    // A larger file is parsed while it is read, on the reader's thread.
    private const int MaxPieceBytes = 16 << 20;

    // Types whose text is held until no more of their members can come: all of a file, unless it is larger than any assembly's.
    private const int MaxHeldCharacters = 32 << 20;

    private const int MaxMemberCharacters = 8 << 20;
    private const int MaxDepth = 256;

    private static readonly XmlReaderSettings Settings = new() { DtdProcessing = DtdProcessing.Prohibit, XmlResolver = null, IgnoreComments = true };

    /// <summary>The whole file as a piece, or its documents when it is large.</summary>
    public static IEnumerable<SourcePiece> Read(SourceFile file, string path)
    {
        using var stream = SourceStream.Open(file, path);
        if (!file.Compressed && file.Length <= MaxPieceBytes)
        {
            var bytes = new byte[file.Length];
            var count = stream.Fill(bytes);
            yield return new SourcePiece(file, bytes.AsMemory(0, count), 0, 1, count);
            yield break;
        }

        var diskRead = 0L;
        foreach (var documents in Parse(file, stream))
        {
            yield return SourcePiece.OfDocuments(file, documents, stream.DiskPosition - diskRead);
            diskRead = stream.DiskPosition;
        }
    }

    /// <summary>The documents of a whole file.</summary>
    public static List<RawDocument> Parse(SourcePiece piece)
    {
        MemoryMarshal.TryGetArray(piece.Bytes, out var bytes);
        using var stream = new MemoryStream(bytes.Array!, bytes.Offset, bytes.Count, writable: false);
        return [.. Parse(piece.File, stream).SelectMany(d => d)];
    }

    private static IEnumerable<List<RawDocument>> Parse(SourceFile file, Stream stream)
    {
        using var guarded = new XmlTagGuard(file, stream);
        using var reader = XmlReader.Create(guarded, Settings);
        var batch = new TypeBatch();
        while (TryReadMember(file, reader, batch))
        {
            if (batch.Characters >= MaxHeldCharacters)
            {
                yield return batch.Documents;
                batch = new TypeBatch();
            }
        }

        if (batch.Documents.Count > 0)
        {
            yield return batch.Documents;
        }
    }

    // False at the end of the file.
    private static bool TryReadMember(SourceFile file, XmlReader reader, TypeBatch batch)
    {
        try
        {
            do
            {
                if (!Next(reader))
                {
                    return false;
                }
            }
            while (reader.NodeType != XmlNodeType.Element || reader.LocalName != "member");

            var id = reader.GetAttribute("name") ?? "";
            var body = ReadMember(reader);
            if (body.Length > 0 && id.Length >= 3 && id[1] == ':')
            {
                batch.Add(id, body);
            }

            return true;
        }
        catch (Exception exception) when (exception is XmlException or InvalidDataException)
        {
            throw new TextSourceException(TextSourceProblem.Invalid,
                $"'{file.Path}' is not well-formed XML documentation: {exception.Message} Mend it; a file of the SDK is mended by installing that again.", exception);
        }
    }

    private static bool Next(XmlReader reader) => reader.Read() && (reader.Depth <= MaxDepth ? true : throw TooMuch(reader, $"nests elements more than {MaxDepth} deep"));

    private static InvalidDataException TooMuch(XmlReader reader, string what) =>
        new($"line {(reader as IXmlLineInfo)?.LineNumber} {what}.");

    // Documents by type, in the order of their first members.
    private sealed class TypeBatch
    {
        private readonly Dictionary<string, List<DocumentMember>> _types = new(StringComparer.Ordinal);

        public List<RawDocument> Documents { get; } = [];

        public long Characters { get; private set; }

        public void Add(string id, string body)
        {
            var name = new DocumentationId(id);
            if (!_types.TryGetValue(name.Type, out var members))
            {
                _types.Add(name.Type, members = []);
                Documents.Add(new RawDocument("", members));
                members.Add(new DocumentMember(default, $"# {DocumentationId.Readable(name.Type)}\n", IsHeading: true));
            }

            var text = name.IsType ? body : $"\n## {name.Signature}\n{body}";
            Characters += text.Length;

            // Overloads that say the same are one member.
            members.Add(new DocumentMember(Key(name.Type, name.MemberName, body), text, IsHeading: false));
        }
    }

    private static UInt128 Key(string type, string member, string body)
    {
        Span<byte> hash = stackalloc byte[32];
        SHA256.HashData(Encoding.UTF8.GetBytes($"{type}\0{member}\0{body}"), hash);
        return System.Buffers.Binary.BinaryPrimitives.ReadUInt128LittleEndian(hash);
    }

    // The reader stands on <member> and is left on its end.
    private static string ReadMember(XmlReader reader)
    {
        var text = new InlineText();
        if (reader.IsEmptyElement)
        {
            return "";
        }

        var depth = reader.Depth;
        while (Next(reader) && reader.Depth > depth)
        {
            if (reader.NodeType != XmlNodeType.Element)
            {
                continue;
            }

            var label = reader.Name switch
            {
                "summary" or "remarks" => "",
                "param" or "typeparam" => (reader.GetAttribute("name") ?? "") + ": ",
                "returns" => "Returns: ",
                "value" => "Value: ",
                _ => null,
            };
            if (label is not null)
            {
                text.BeginSection(label);
                ReadInline(reader, text);
                text.EndSection();
            }
            else
            {
                SkipElement(reader);
            }
        }

        return text.ToString();
    }

    // Leaves the reader on the end of the element (or on the element, when it is empty).
    private static void ReadInline(XmlReader reader, InlineText text)
    {
        if (reader.IsEmptyElement)
        {
            return;
        }

        var depth = reader.Depth;
        while (Next(reader) && reader.Depth > depth)
        {
            switch (reader.NodeType)
            {
                case XmlNodeType.Text or XmlNodeType.CDATA or XmlNodeType.Whitespace or XmlNodeType.SignificantWhitespace:
                    ReadText(reader, text);
                    break;
                case XmlNodeType.Element:
                    ReadElement(reader, text);
                    break;
            }
        }
    }

    private static void ReadText(XmlReader reader, InlineText text)
    {
        if (!reader.CanReadValueChunk)
        {
            text.Append(reader.Value);
            return;
        }

        var chunk = ArrayPool<char>.Shared.Rent(4096);
        try
        {
            var value = new StringBuilder();
            for (var read = 0; (read = reader.ReadValueChunk(chunk, 0, chunk.Length)) > 0;)
            {
                value.Append(chunk, 0, read);
                if (text.Length + value.Length > MaxMemberCharacters)
                {
                    throw TooMuch(reader, $"belongs to a member with more than {MaxMemberCharacters} characters");
                }
            }

            text.Append(value.ToString());
        }
        finally
        {
            ArrayPool<char>.Shared.Return(chunk);
        }
    }

    private static void ReadElement(XmlReader reader, InlineText text)
    {
        switch (reader.Name)
        {
            case "paramref" or "typeparamref":
                text.Append(reader.GetAttribute("name") ?? "");
                SkipElement(reader);
                break;
            case "see" or "seealso" or "xref" when reader.IsEmptyElement:
                text.Append(reader.GetAttribute("langword") ?? reader.GetAttribute("href")
                    ?? DocumentationId.Short(reader.GetAttribute("cref") ?? reader.GetAttribute("uid")));
                break;
            case "para" or "p" or "br" or "item" or "li" or "list" or "listheader" or "ul" or "div":
                text.BreakLine();
                ReadInline(reader, text);
                text.BreakLine();
                break;
            case "code" when reader.GetAttribute("data-dev-comment-type") is null:
                text.Verbatim = true;
                ReadInline(reader, text);
                text.Verbatim = false;
                break;
            case "term":
                ReadInline(reader, text);
                text.Append(" ");
                break;
            case "inheritdoc" or "devremarks" or "script" or "forInternalUseOnly":
                SkipElement(reader);
                break;
            default:
                ReadInline(reader, text);
                break;
        }
    }

    private static void SkipElement(XmlReader reader)
    {
        if (reader.IsEmptyElement)
        {
            return;
        }

        var depth = reader.Depth;
        while (Next(reader) && (reader.Depth > depth || reader.NodeType != XmlNodeType.EndElement))
        {
        }
    }
}
