using System.Collections;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace LlmPipeline.Cli.RunFiles;

/// <summary>Writes the set fields of a protobuf message as YAML that <see cref="YamlMessageReader"/> takes.</summary>
internal static partial class YamlMessageWriter
{
    /// <summary>The whole message, lines ended by LF.</summary>
    public static string Write(IMessage message)
    {
        var text = new StringBuilder();
        WriteFields(text, message, "");
        return text.ToString();
    }

    private static void WriteFields(StringBuilder text, IMessage message, string indent)
    {
        foreach (var field in message.Descriptor.Fields.InFieldNumberOrder())
        {
            var value = field.Accessor.GetValue(message);
            if (field.IsRepeated)
            {
                if (value is IList { Count: > 0 } list)
                {
                    text.Append(CultureInfo.InvariantCulture, $"{indent}{field.Name}:\n");
                    foreach (var item in list)
                    {
                        text.Append(CultureInfo.InvariantCulture, $"{indent}  - {(item is IMessage child ? Item(child, indent + "    ") : Scalar(item!))}\n");
                    }
                }
            }
            else if (field.FieldType == FieldType.Message)
            {
                if (value is IMessage child)
                {
                    text.Append(CultureInfo.InvariantCulture, $"{indent}{field.Name}:\n");
                    WriteFields(text, child, indent + "  ");
                }
            }
            else if (field.HasPresence ? field.Accessor.HasValue(message) : !value.Equals(Scalars.Parse(field.FieldType == FieldType.Bool ? "false" : "0", field)) && value is not "")
            {
                text.Append(CultureInfo.InvariantCulture, $"{indent}{field.Name}: {Scalar(value)}\n");
            }
        }
    }

    // The fields of a message in a list, the first of them beside the dash.
    private static string Item(IMessage message, string indent)
    {
        var text = new StringBuilder();
        WriteFields(text, message, indent);
        return text.Length == 0 ? "{}" : text.ToString().Trim(' ', '\n');
    }

    private static string Scalar(object value)
    {
        var text = Scalars.Format(value);
        return value is not string || (PlainText().IsMatch(text) && text is not ("null" or "true" or "false")) ? text : Quote(text);
    }

    private static string Quote(string text)
    {
        var quoted = new StringBuilder("\"");
        foreach (var c in text)
        {
            _ = c switch
            {
                '"' or '\\' => quoted.Append('\\').Append(c),
                _ when char.GetUnicodeCategory(c) is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
                    => quoted.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"),
                _ => quoted.Append(c),
            };
        }

        return quoted.Append('"').ToString();
    }

    // Everything else, and what YAML reads as a number or a switch, is quoted.
    [GeneratedRegex("^[A-Za-z_/][A-Za-z0-9_/.-]*\\z", RegexOptions.CultureInvariant)]
    private static partial Regex PlainText();
}
