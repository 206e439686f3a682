namespace LlmPipeline.Text.Sources;

/// <summary>Turns pieces of source files into documents. Safe for use from many threads.</summary>
internal sealed class PieceParser(string textField)
{
    /// <summary>The documents of a piece, in order.</summary>
    /// <exception cref="TextSourceException">The piece is not what its file's name says.</exception>
    public IReadOnlyList<RawDocument> Parse(SourcePiece piece) => piece.File.Format switch
    {
        SourceFormat.PlainText => [new RawDocument(Utf8Text.Decode(piece))],
        SourceFormat.JsonLines => JsonLines.Parse(piece, textField),
        _ => XmlDocumentation.Parse(piece),
    };
}
