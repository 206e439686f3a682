namespace LlmPipeline.Text.Sources;

/// <summary>Bytes of a source file that can be parsed on their own: a document, or whole records of a file.</summary>
/// <param name="File">Where they come from.</param>
/// <param name="Bytes">The bytes, decompressed.</param>
/// <param name="Offset">Position of the first byte in the (decompressed) file.</param>
/// <param name="FirstLine">Number of the first line, counted from 1; 0 where it is not known.</param>
/// <param name="DiskBytes">How many bytes of the file on disk this piece stands for.</param>
internal sealed record SourcePiece(SourceFile File, ReadOnlyMemory<byte> Bytes, long Offset, long FirstLine, long DiskBytes)
{
    /// <summary>Documents that the reader had to take out of the file itself, instead of <see cref="Bytes"/>.</summary>
    public IReadOnlyList<RawDocument>? Documents { get; init; }

    /// <summary>What the header of the piece's file says, where it has one.</summary>
    public CsvHeader? Csv { get; init; }

    /// <summary>Records that the reader left out after this piece.</summary>
    public SkippedRecords Skipped { get; init; } = SkippedRecords.None;

    /// <summary>A piece of documents that are ready.</summary>
    public static SourcePiece OfDocuments(SourceFile file, IReadOnlyList<RawDocument> documents, long diskBytes) =>
        new(file, default, 0, 0, diskBytes) { Documents = documents };
}

/// <summary>What a piece holds.</summary>
/// <param name="Documents">In order.</param>
/// <param name="Skipped">Records that cannot be read.</param>
internal sealed record ParsedPiece(IReadOnlyList<RawDocument> Documents, SkippedRecords Skipped);

/// <summary>A document as it comes from a source, before cleaning.</summary>
/// <param name="Text">The text; empty when <paramref name="Members"/> holds it.</param>
/// <param name="Members">Parts of the document that are dropped when an earlier document had the same part.</param>
/// <param name="Label">Its class; null where no label was asked for.</param>
internal sealed record RawDocument(string Text, IReadOnlyList<DocumentMember>? Members = null, string? Label = null);

/// <summary>Where documents lie in records.</summary>
/// <param name="Text">The property or column that holds the text.</param>
/// <param name="Label">That which holds the class: a text, a whole number, or true and false. Null where documents have none.</param>
/// <param name="Lines">Each line of a plain text that is not blank is a document.</param>
internal sealed record RecordFields(string Text, string? Label = null, bool Lines = false)
{
    public static implicit operator RecordFields(string text) => new(text);
}

/// <summary>A part of a document.</summary>
/// <param name="Key">Equal for parts that say the same.</param>
/// <param name="Text">The part's text, with its line end.</param>
/// <param name="IsHeading">A heading alone does not make a document.</param>
internal readonly record struct DocumentMember(UInt128 Key, string Text, bool IsHeading);
