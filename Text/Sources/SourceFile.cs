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

    /// <summary>XML documentation of an assembly; each type is a document (.xml).</summary>
    XmlDocumentation,

    /// <summary>Each record is a document, in the column that a header names (.csv; separated by commas, or by semicolons where the header has no comma).</summary>
    CommaSeparated,

    /// <summary>The same with tabs (.tsv).</summary>
    TabSeparated,

    /// <summary>Each row is a document, in one column (.parquet).</summary>
    Parquet,
}

/// <summary>How a file is compressed.</summary>
public enum SourceCompression
{
    /// <summary>Not at all.</summary>
    None,

    /// <summary>gzip (.gz), of one or several members.</summary>
    Gzip,

    /// <summary>Zstandard (.zst), of one or several frames.</summary>
    Zstandard,
}

/// <summary>A file that documents are read from.</summary>
/// <param name="Path">Full path, or the address of a remote file.</param>
/// <param name="Length">Bytes on disk, as compressed as it lies there.</param>
/// <param name="Modified">Time of the last change, UTC.</param>
/// <param name="Format">How documents lie in it.</param>
/// <param name="Compression">How it is compressed.</param>
/// <param name="Identity">What the server says of a remote file's content: a hash or an entity tag. Null for a local file.</param>
public sealed record SourceFile(
    string Path, long Length, DateTime Modified, SourceFormat Format, SourceCompression Compression = SourceCompression.None, string? Identity = null)
{
    /// <summary>File endings that are read.</summary>
    public const string KnownEndings = ".txt, .md, .jsonl, .csv, .tsv, .xml (each also with .gz or .zst) or .parquet";

    /// <summary>Whether the file is compressed.</summary>
    public bool Compressed => Compression != SourceCompression.None;

    /// <summary>Format and compression by the name's ending, or null when it has none of the known endings.</summary>
    internal static (SourceFormat Format, SourceCompression Compression)? FormatOf(ReadOnlySpan<char> name)
    {
        var compression = name.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? SourceCompression.Gzip
            : name.EndsWith(".zst", StringComparison.OrdinalIgnoreCase) ? SourceCompression.Zstandard
            : SourceCompression.None;
        Span<char> ending = stackalloc char[8];
        var extension = System.IO.Path.GetExtension(compression == SourceCompression.None ? name : System.IO.Path.GetFileNameWithoutExtension(name));
        if (extension.Length > ending.Length)
        {
            return null;
        }

        ending = ending[..extension.ToLowerInvariant(ending)];
        SourceFormat? format = ending switch
        {
            ".txt" or ".md" => SourceFormat.PlainText,
            ".jsonl" => SourceFormat.JsonLines,
            ".csv" => SourceFormat.CommaSeparated,
            ".tsv" => SourceFormat.TabSeparated,
            ".xml" => SourceFormat.XmlDocumentation,
            ".parquet" when compression == SourceCompression.None => SourceFormat.Parquet,
            _ => null,
        };
        return format is null ? null : (format.Value, compression);
    }

    /// <summary>Describes a file on disk, or null when its name has none of the known endings.</summary>
    internal static SourceFile? TryCreate(string path) => FormatOf(path) is var (format, compression) ? Create(path, format, compression) : null;

    internal static SourceFile Create(string path, SourceFormat format, SourceCompression compression = SourceCompression.None)
    {
        // A link is described by its target: that is what is read.
        var info = new FileInfo(path);
        var target = info.LinkTarget is null ? info : info.ResolveLinkTarget(returnFinalTarget: true) as FileInfo ?? info;
        return target.Exists
            ? new SourceFile(info.FullName, target.Length, target.LastWriteTimeUtc, format, compression)
            : throw new TextSourceException(TextSourceProblem.NotFound, $"'{path}' points to a file that does not exist. Mend the link or remove it.");
    }

    /// <summary>SHA-256 over path, length, time of change and identity of all files: another value means that the text may differ.</summary>
    public static string Fingerprint(IEnumerable<SourceFile> files)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var file in files)
        {
            hash.AppendData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture,
                $"{file.Path}\0{file.Length}\0{file.Modified.Ticks}{(file.Identity is null ? "" : "\0")}{file.Identity}\n")));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
