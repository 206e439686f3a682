using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace LlmPipeline.Text.Sources;

/// <summary>How documents lie in a file.</summary>
public enum SourceFormat
{
    /// <summary>The file is one document (.txt, .md).</summary>
    PlainText,

    /// <summary>Each line is a JSON object with the document in one property (.jsonl).</summary>
    JsonLines,

    /// <summary>XML documentation of an assembly; each type is a document.</summary>
    XmlDocumentation,
}

/// <summary>A file that documents are read from.</summary>
/// <param name="Path">Full path.</param>
/// <param name="Length">Bytes on disk.</param>
/// <param name="Modified">Time of the last change, UTC.</param>
/// <param name="Format">How documents lie in it.</param>
/// <param name="Compressed">Whether it is gzip.</param>
public sealed record SourceFile(string Path, long Length, DateTime Modified, SourceFormat Format, bool Compressed)
{
    /// <summary>File endings that are read, without the optional <c>.gz</c>.</summary>
    public const string KnownEndings = ".txt, .md, .jsonl (each also with .gz)";

    /// <summary>Describes a file on disk, or null when its name has none of the known endings.</summary>
    internal static SourceFile? TryCreate(string path)
    {
        var compressed = path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase);
        var ending = System.IO.Path.GetExtension(compressed ? path[..^3] : path).ToLowerInvariant();
        SourceFormat? format = ending switch
        {
            ".txt" or ".md" => SourceFormat.PlainText,
            ".jsonl" => SourceFormat.JsonLines,
            _ => null,
        };
        return format is null ? null : Create(path, format.Value, compressed);
    }

    internal static SourceFile Create(string path, SourceFormat format, bool compressed = false)
    {
        // A link is described by its target: that is what is read.
        var info = new FileInfo(path);
        var target = info.LinkTarget is null ? info : info.ResolveLinkTarget(returnFinalTarget: true) as FileInfo ?? info;
        return target.Exists
            ? new SourceFile(info.FullName, target.Length, target.LastWriteTimeUtc, format, compressed)
            : throw new TextSourceException(TextSourceProblem.NotFound, $"'{path}' points to a file that does not exist. Mend the link or remove it.");
    }

    /// <summary>SHA-256 over path, length and time of change of all files: another value means that the text may differ.</summary>
    public static string Fingerprint(IEnumerable<SourceFile> files)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var file in files)
        {
            hash.AppendData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{file.Path}\0{file.Length}\0{file.Modified.Ticks}\n")));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
