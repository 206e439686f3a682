using System.Text.Json;

namespace LlmPipeline.Text.Sources;

/// <summary>Reads one property of each line of a .jsonl file.</summary>
internal static class JsonLines
{
    public static List<RawDocument> Parse(SourcePiece piece, string field)
    {
        var documents = new List<RawDocument>();
        var rest = Utf8Text.WithoutMark(piece);
        var line = piece.FirstLine;
        while (!rest.IsEmpty)
        {
            var end = rest.IndexOf((byte)'\n');
            var bytes = end < 0 ? rest : rest[..end];
            rest = end < 0 ? [] : rest[(end + 1)..];
            if (bytes.ContainsAnyExcept(" \t\r"u8))
            {
                Utf8Text.RequireValid(piece.File, bytes, piece.Offset + piece.Bytes.Length - rest.Length - bytes.Length - (end < 0 ? 0 : 1));
                documents.Add(new RawDocument(ReadField(piece.File, line, bytes, field)));
            }

            line++;
        }

        return documents;
    }

    private static string ReadField(SourceFile file, long line, ReadOnlySpan<byte> bytes, string field)
    {
        try
        {
            var reader = new Utf8JsonReader(bytes);
            reader.Read();
            if (reader.TokenType != JsonTokenType.StartObject)
            {
                throw Error(file, line, "is not a JSON object. A .jsonl file has one object a line.");
            }

            string? text = null;
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                var found = reader.ValueTextEquals(field);
                reader.Read();
                if (found)
                {
                    text = reader.TokenType == JsonTokenType.String
                        ? reader.GetString()
                        : throw Error(file, line, $"has a '{field}' that is not a string. Name the property that holds the text in text_field.");
                }

                reader.Skip();
            }

            // Anything after the object is an error of the reader.
            reader.Read();
            return text ?? throw Error(file, line, $"has no property '{field}'. Name the property that holds the text in text_field.");
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException)
        {
            throw Error(file, line, $"is not valid JSON: {exception.Message} Mend or remove the line.", exception);
        }
    }

    private static TextSourceException Error(SourceFile file, long line, string what, Exception? inner = null) =>
        new(TextSourceProblem.Invalid, $"'{file.Path}' line {line} {what}", inner);
}
