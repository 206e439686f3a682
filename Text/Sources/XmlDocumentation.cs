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
    private static readonly XmlReaderSettings Settings = new() { DtdProcessing = DtdProcessing.Prohibit, XmlResolver = null, IgnoreComments = true };

    public static List<RawDocument> Parse(SourcePiece piece)
    {
        var types = new Dictionary<string, List<DocumentMember>>(StringComparer.Ordinal);
        var documents = new List<RawDocument>();
        try
        {
            using var stream = new MemoryStream(piece.Bytes.ToArray(), writable: false);
            using var reader = XmlReader.Create(stream, Settings);
            while (reader.ReadToFollowing("member"))
            {
                var id = reader.GetAttribute("name") ?? "";
                var body = ReadMember(reader);
                if (body.Length == 0 || id.Length < 3 || id[1] != ':')
                {
                    continue;
                }

                var name = new DocumentationId(id);
                if (!types.TryGetValue(name.Type, out var members))
                {
                    types.Add(name.Type, members = []);
                    documents.Add(new RawDocument("", members));
                    members.Add(new DocumentMember(default, $"# {DocumentationId.Readable(name.Type)}\n", IsHeading: true));
                }

                var text = name.IsType ? body : $"\n## {name.Signature}\n{body}";

                // Overloads that say the same are one member.
                members.Add(new DocumentMember(Key(name.Type, name.MemberName, body), text, IsHeading: false));
            }
        }
        catch (XmlException exception)
        {
            throw new TextSourceException(TextSourceProblem.Invalid, $"'{piece.File.Path}' is not well-formed XML: {exception.Message} Install the SDK again.", exception);
        }

        return documents;
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
        while (reader.Read() && reader.Depth > depth)
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
        while (reader.Read() && reader.Depth > depth)
        {
            switch (reader.NodeType)
            {
                case XmlNodeType.Text or XmlNodeType.CDATA or XmlNodeType.Whitespace or XmlNodeType.SignificantWhitespace:
                    text.Append(reader.Value);
                    break;
                case XmlNodeType.Element:
                    ReadElement(reader, text);
                    break;
            }
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
        while (reader.Read() && (reader.Depth > depth || reader.NodeType != XmlNodeType.EndElement))
        {
        }
    }
}
