using System.Globalization;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Bench;

/// <summary>
/// About 100 MB of English UTF-8 from what a machine with the .NET SDK has: XML documentation of the SDK (and of restored packages), manual pages,
/// documentation files, test data. A line of 32 bytes and more is kept once, and documents are in the order of a hash, so that the text is not
/// repetitive and its beginning is like its rest. Made once and kept in the temporary folder; the same files give the same bytes.
/// </summary>
internal sealed partial class Corpus
{
    private const int MinRepeatedLine = 32;
    private const int MaxFileBytes = 4 << 20;

    private readonly HashSet<ulong> _lines = [];
    private readonly List<(ulong Order, byte[] Utf8, string Kind)> _documents = [];

    /// <summary>The text, cut at a line end.</summary>
    public required string Path { get; init; }

    /// <summary>What it is made of, and its SHA-256, as a line of Markdown.</summary>
    public required string Description { get; init; }

    /// <summary>Makes the text, or finds it.</summary>
    public static async Task<Corpus> GetAsync(long bytes = 100_000_000)
    {
        var folder = Directory.CreateDirectory(System.IO.Path.Combine(System.IO.Path.GetTempPath(), "llmpipeline-bench")).FullName;
        var path = System.IO.Path.Combine(folder, $"corpus-{bytes}.txt");
        var description = path + ".md";
        if (!File.Exists(description))
        {
            Console.WriteLine($"making {path}");
            await File.WriteAllTextAsync(description, new Corpus { Path = path, Description = "" }.Make(bytes));
        }

        return new Corpus { Path = path, Description = await File.ReadAllTextAsync(description) };
    }

    /// <summary>The first bytes of the text up to a line end, as documents of about 10 kB that end at line ends.</summary>
    public List<byte[]> Documents(int bytes, int documentBytes = 10_000)
    {
        var buffer = new byte[bytes];
        using (var stream = File.OpenRead(Path))
        {
            buffer = buffer[..stream.ReadAtLeast(buffer, bytes, throwOnEndOfStream: false)];
        }

        var documents = new List<byte[]>();
        for (var start = 0; start < buffer.Length;)
        {
            var end = Math.Min(buffer.Length, start + documentBytes);
            var line = buffer.AsSpan(start, end - start).LastIndexOf((byte)'\n') + 1;
            if (line == 0)
            {
                break;
            }

            documents.Add(buffer[start..(start + line)]);
            start += line;
        }

        return documents;
    }

    private string Make(long bytes)
    {
        AddDotnetDocs();
        AddFiles("manual pages", "/usr/share/man", f => f.Contains("/man/man", StringComparison.Ordinal), text => Manual(text));
        AddFiles("documentation files", "/usr/share/doc", IsProse, Markup);
        AddFiles("documentation files", "/usr/share/perl", IsProse, Markup);
        AddFiles("documentation files", "/usr/lib", IsProse, Markup);
        AddFiles("documentation files", "/usr/share/nodejs", IsProse, Markup);
        if (Environment.GetEnvironmentVariable("LLMPIPELINE_TEST_DATA") is { Length: > 0 } data)
        {
            foreach (var folder in (string[])["warandpeace", "wikitext-2", "tinyshakespeare", "botchan", "mr-sentence-polarity"])
            {
                AddFiles("test data", System.IO.Path.Combine(data, folder), _ => true, text => text);
            }
        }

        _documents.Sort((a, b) => a.Order.CompareTo(b.Order));
        var kinds = new SortedDictionary<string, long>(StringComparer.Ordinal);
        long written = 0;
        using (var stream = File.Create(Path))
        {
            foreach (var (_, utf8, kind) in _documents)
            {
                if (written + utf8.Length > bytes)
                {
                    break;
                }

                stream.Write(utf8);
                written += utf8.Length;
                kinds[kind] = kinds.GetValueOrDefault(kind) + utf8.Length;
            }
        }

        using var reading = File.OpenRead(Path);
        var parts = string.Join(", ", kinds.OrderByDescending(k => k.Value).Select(k => string.Create(CultureInfo.InvariantCulture, $"{k.Key} {100.0 * k.Value / written:F0} %")));
        return string.Create(CultureInfo.InvariantCulture, $"- Text: {written / 1e6:F1} MB of UTF-8 ({parts}), each longer line once; SHA-256 {Convert.ToHexStringLower(SHA256.HashData(reading))[..16]}");
    }

    private void AddDotnetDocs()
    {
        var parser = new PieceParser("text");
        foreach (var document in DotnetDocs.FindFiles().SelectMany(f => XmlDocumentation.Read(f, f.Path)).SelectMany(p => parser.Parse(p).Documents))
        {
            Add("SDK documentation", string.Concat(document.Members!.Select(m => m.Text)));
        }
    }

    private void AddFiles(string kind, string folder, Func<string, bool> wanted, Func<string, string> convert)
    {
        if (!Directory.Exists(folder))
        {
            return;
        }

        var options = new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.ReparsePoint };
        foreach (var file in Directory.EnumerateFiles(folder, "*", options).Where(wanted).Order(StringComparer.Ordinal))
        {
            if (new FileInfo(file).Length <= MaxFileBytes && ReadText(file) is { } text)
            {
                Add(kind, convert(text));
            }
        }
    }

    private void Add(string kind, string text)
    {
        var kept = new StringBuilder(text.Length);
        foreach (var line in text.ReplaceLineEndings("\n").Split('\n').Select(l => l.TrimEnd()))
        {
            if (line.Length < MinRepeatedLine || _lines.Add(HashOf(Encoding.UTF8.GetBytes(line))))
            {
                kept.Append(line).Append('\n');
            }
        }

        // What is left of a page that was there before is its blank and short lines.
        var utf8 = Encoding.UTF8.GetBytes(BlankLines().Replace(kept.ToString(), "\n\n").Trim() + "\n\n");
        if (utf8.Length >= 400)
        {
            _documents.Add((HashOf(utf8), utf8, kind));
        }
    }

    private static bool IsProse(string file)
    {
        var name = System.IO.Path.GetFileName(file);
        name = name.EndsWith(".gz", StringComparison.Ordinal) ? name[..^3] : name;
        return System.IO.Path.GetExtension(name) is ".txt" or ".md" or ".rst" or ".html" or ".pod" or ".pm" or ".d.ts"
            || name.StartsWith("README", StringComparison.Ordinal) || name.StartsWith("NEWS", StringComparison.Ordinal) || name.StartsWith("changelog", StringComparison.OrdinalIgnoreCase);
    }

    private static string? ReadText(string file)
    {
        var bytes = File.ReadAllBytes(file);
        if (file.EndsWith(".gz", StringComparison.Ordinal))
        {
            using var unpacked = new MemoryStream();
            using (var gzip = new GZipStream(new MemoryStream(bytes), CompressionMode.Decompress))
            {
                gzip.CopyTo(unpacked);
            }

            bytes = unpacked.ToArray();
        }

        return System.Text.Unicode.Utf8.IsValid(bytes) && !bytes.AsSpan().Contains((byte)0) ? Encoding.UTF8.GetString(bytes) : null;
    }

    // Enough of troff to read as prose: requests go, the words of headings and fonts stay, escapes become what they stand for.
    private static string Manual(string text)
    {
        var lines = text.Split('\n').Select(line => line is ['.' or '\'', ..] ? Words().Match(line).Groups[1].Value.Replace("\"", "", StringComparison.Ordinal) : line);
        text = string.Join('\n', lines).Replace("\\-", "-", StringComparison.Ordinal).Replace("\\&", "", StringComparison.Ordinal).Replace("\\(aq", "'", StringComparison.Ordinal);
        return Escapes().Replace(text, "");
    }

    private static string Markup(string text) => System.Net.WebUtility.HtmlDecode(Tags().Replace(text, ""));

    private static ulong HashOf(byte[] bytes) => BitConverter.ToUInt64(SHA256.HashData(bytes));

    [GeneratedRegex(@"^[.'](?:SH|SS|TP|B|I|BR|BI|IR|RB|IB|IP|Nm|Nd|Sh|Ss|Fl|Ar|It|Xr|Dv|Pa)\s+(.*)$")]
    private static partial Regex Words();

    [GeneratedRegex(@"\\f(\[[^\]]*\]|\(..|.)|\\s[-+]?\d+|\\\(..|\\\[[^\]]*\]|\\\*(\[[^\]]*\]|\(..|.)|\\[|^/,e ]|\\h'[^']*'|\\"".*")]
    private static partial Regex Escapes();

    [GeneratedRegex(@"<(script|style)\b.*?</\1>|</?[a-zA-Z!][^<>]*>", RegexOptions.Singleline | RegexOptions.IgnoreCase)]
    private static partial Regex Tags();

    [GeneratedRegex(@"\n{3,}")]
    private static partial Regex BlankLines();
}
