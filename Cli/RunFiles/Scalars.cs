using System.Globalization;
using Google.Protobuf.Reflection;

namespace LlmPipeline.Cli.RunFiles;

/// <summary>Texts, numbers and switches as they are written in run files and after --set.</summary>
internal static class Scalars
{
    /// <summary>The value of a field, or null when the text is not of its type.</summary>
    public static object? Parse(string text, FieldDescriptor field) => field.FieldType switch
    {
        FieldType.String => text,
        FieldType.Int32 => int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value) ? value : null,
        FieldType.Int64 => long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value) ? value : null,
        FieldType.Double => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var value) && double.IsFinite(value) ? value : null,
        FieldType.Bool => text switch
        {
            "true" => true,
            "false" => false,
            _ => null,
        },
        _ => throw new NotSupportedException($"Field {field.FullName} has a type that run files do not have."),
    };

    /// <summary>A value as <see cref="Parse"/> takes it, not yet quoted.</summary>
    public static string Format(object value) => value switch
    {
        bool flag => flag ? "true" : "false",
        double number => number.ToString("R", CultureInfo.InvariantCulture),
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        _ => (string)value,
    };

    /// <summary>What a field takes, in words.</summary>
    public static string Expected(FieldDescriptor field) => field.FieldType switch
    {
        FieldType.String => "a text",
        FieldType.Int32 or FieldType.Int64 => "a whole number",
        FieldType.Double => "a number",
        _ => "true or false",
    };
}
