using System.Text;

namespace LlmPipeline.Text.Sources;

/// <summary>An id of XML documentation, for example <c>M:System.Version.Parse(System.String)</c>.</summary>
internal readonly ref struct DocumentationId
{
    public DocumentationId(string id)
    {
        IsType = id[0] is 'T' or 'N';
        var body = id[2..];
        var end = body.IndexOf('(');
        var path = end < 0 ? body : body[..end];
        var parameters = end < 0 ? "" : body[end..];
        if (IsType)
        {
            Type = path;
            MemberName = "";
            Signature = Readable(path);
            return;
        }

        var dot = path.LastIndexOf('.');
        Type = dot < 0 ? path : path[..dot];
        var name = path[(dot + 1)..];
        MemberName = name is "#ctor" or "#cctor" ? LastSegment(Readable(Type)) : LastSegment(Readable(name.Replace('#', '.')));
        Signature = MemberName + (parameters.Length == 0 ? id[0] == 'M' ? "()" : "" : ReadableParameters(parameters));
    }

    /// <summary>Whether it names a type.</summary>
    public bool IsType { get; }

    /// <summary>The type, or the type that the member belongs to, as written in the id.</summary>
    public string Type { get; }

    /// <summary>The member without parameters; empty for a type.</summary>
    public string MemberName { get; }

    /// <summary>The member with short parameter types, for example <c>Parse(String)</c>.</summary>
    public string Signature { get; }

    /// <summary>The short name of a reference: a type without namespace, or a member with its type.</summary>
    /// <example><c>P:System.Exception.Message</c> gives <c>Exception.Message</c>.</example>
    public static string Short(string? reference)
    {
        if (string.IsNullOrEmpty(reference))
        {
            return "";
        }

        if (reference.Length < 3 || reference[1] != ':')
        {
            return LastSegment(Readable(Uri.UnescapeDataString(reference)));
        }

        if (reference[0] == '!')
        {
            return reference[2..];
        }

        var id = new DocumentationId(reference);
        var type = LastSegment(Readable(id.Type));
        return id.IsType || id.MemberName == type ? type : $"{type}.{id.MemberName}";
    }

    /// <summary>Takes the number of type parameters out of a name.</summary>
    public static string Readable(string name)
    {
        var braces = name.IndexOf('{');
        name = braces < 0 ? name : name[..braces];
        if (!name.Contains('`'))
        {
            return name;
        }

        var text = new StringBuilder(name.Length);
        for (var i = 0; i < name.Length; i++)
        {
            if (name[i] == '`')
            {
                while (i + 1 < name.Length && (name[i + 1] == '`' || char.IsAsciiDigit(name[i + 1])))
                {
                    i++;
                }

                continue;
            }

            text.Append(name[i]);
        }

        return text.ToString();
    }

    // Each dotted name keeps its last segment: (System.Int32,System.Collections.Generic.List{``0}@) gives (Int32, List<T>).
    private static string ReadableParameters(string parameters)
    {
        var text = new StringBuilder(parameters.Length);
        var nameStart = 0;
        for (var i = 0; i < parameters.Length && parameters[i] != '~'; i++)
        {
            var c = parameters[i];
            switch (c)
            {
                case '.':
                    text.Length = nameStart;
                    break;
                case '{':
                    text.Append('<');
                    break;
                case '}':
                    text.Append('>');
                    break;
                case '@':
                    break;
                case '`':
                    text.Append('T');
                    i += parameters.AsSpan(i + 1).StartsWith("`") ? 1 : 0;
                    i += parameters.AsSpan(i + 1).StartsWith("0") ? 1 : 0;
                    break;
                case ',' when text[^1] is not ('[' or ','):
                    text.Append(", ");
                    break;
                default:
                    text.Append(c);
                    break;
            }

            if (c is '(' or ',' or '{' or '[')
            {
                nameStart = text.Length;
            }
        }

        return text.ToString();
    }

    private static string LastSegment(string name) => name[(name.LastIndexOf('.') + 1)..];
}
