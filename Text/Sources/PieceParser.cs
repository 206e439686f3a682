namespace LlmPipeline.Text.Sources;

/// <summary>Turns pieces of source files into documents. Safe for use from many threads.</summary>
/// <param name="fields">Where the documents lie.</param>
/// <param name="onInvalid">What happens to a record that cannot be read.</param>
internal sealed class PieceParser(RecordFields fields, InvalidRecords onInvalid = InvalidRecords.Fail)
{
    /// <summary>The documents of a piece, in order, and what was left out.</summary>
    /// <exception cref="TextSourceException">The piece is not what its file's name says, and invalid records are an error.</exception>
    public ParsedPiece Parse(SourcePiece piece)
    {
        if (piece.Documents is { } ready)
        {
            return new ParsedPiece(ready, piece.Skipped);
        }

        try
        {
            return piece.File.Format switch
            {
                SourceFormat.PlainText => new ParsedPiece(fields.Lines ? Lines(Utf8Text.Decode(piece)) : [new RawDocument(Utf8Text.Decode(piece))], piece.Skipped),
                SourceFormat.JsonLines => JsonLines.Parse(piece, fields, onInvalid),
                SourceFormat.CommaSeparated or SourceFormat.TabSeparated => SeparatedValues.Parse(piece, onInvalid),
                _ => new ParsedPiece(XmlDocumentation.Parse(piece), piece.Skipped),
            };
        }
        catch (TextSourceException exception) when (onInvalid == InvalidRecords.Skip && exception.Problem == TextSourceProblem.Invalid)
        {
            return new ParsedPiece([], SkippedRecords.None.Add(exception.Message));
        }
    }

    // A piece of a long text is cut behind a line end, where it has one.
    private static List<RawDocument> Lines(string text) =>
        [.. text.Split('\n').Select(l => l.TrimEnd('\r')).Where(l => !string.IsNullOrWhiteSpace(l)).Select(l => new RawDocument(l))];
}
