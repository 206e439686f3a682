namespace LlmPipeline.Text.Sources;

/// <summary>Bytes of a source file that can be parsed on their own: a whole file, or whole lines of a big one.</summary>
/// <param name="File">Where they come from.</param>
/// <param name="Bytes">The bytes, decompressed.</param>
/// <param name="Offset">Position of the first byte in the (decompressed) file.</param>
/// <param name="FirstLine">Number of the first line, counted from 1. Only counted for JSON lines.</param>
/// <param name="DiskBytes">How many bytes of the file on disk this piece stands for.</param>
internal sealed record SourcePiece(SourceFile File, ReadOnlyMemory<byte> Bytes, long Offset, long FirstLine, long DiskBytes);

/// <summary>A document as it comes from a source, before cleaning.</summary>
/// <param name="Text">The text; empty when <paramref name="Members"/> holds it.</param>
/// <param name="Members">Parts of the document that are dropped when an earlier document had the same part.</param>
internal sealed record RawDocument(string Text, IReadOnlyList<DocumentMember>? Members = null);

/// <summary>A part of a document.</summary>
/// <param name="Key">Equal for parts that say the same.</param>
/// <param name="Text">The part's text, with its line end.</param>
/// <param name="IsHeading">A heading alone does not make a document.</param>
internal readonly record struct DocumentMember(UInt128 Key, string Text, bool IsHeading);
