using System.Runtime.InteropServices;

namespace LlmPipeline.Text.Sources;

/// <summary>Where a record lies.</summary>
/// <param name="File">Its file.</param>
/// <param name="Line">Number of its (first) line, counted from 1; 0 where it is not known.</param>
/// <param name="Offset">Position of its first byte in the (decompressed) file.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct RecordPlace(SourceFile File, long Line, long Offset)
{
    /// <summary>An error that names the place.</summary>
    public TextSourceException Error(string what, Exception? inner = null) => new(TextSourceProblem.Invalid,
        Line > 0 ? $"'{File.Path}' line {Line} (offset {Offset}) {what}" : $"'{File.Path}': the line at offset {Offset} {what}", inner);
}
