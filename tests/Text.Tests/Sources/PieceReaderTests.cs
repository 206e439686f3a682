using System.IO.Compression;
using System.Text;
using LlmPipeline.Fakes;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Tests.Sources;

public sealed class PieceReaderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void PlainTextIsOneDocumentWithoutByteOrderMark()
    {
        var path = _folder.Write("a.txt", [0xEF, 0xBB, 0xBF, .. "Grüße\n"u8]);
        Assert.Equal(["Grüße\n"], Read(path));
    }

    [Fact]
    public void CompressedFilesAreReadLikeTheOthers()
    {
        Assert.Equal(["one\ntwo"], Read(_folder.Write("a.md.gz", Gzip("one\ntwo"))));
        Assert.Equal(["x", "y"], Read(_folder.Write("b.jsonl.gz", Gzip("{\"text\":\"x\"}\n{\"text\":\"y\"}"))));
    }

    [Fact]
    public void BigTextIsCutAtLineEndsAndLosesNothing()
    {
        var text = string.Concat(Enumerable.Range(0, 900_000).Select(i => $"line {i} of a big file é\n"));
        var documents = Read(_folder.Write("big.txt", text));
        Assert.True(documents.Count > 2);
        Assert.All(documents, d => Assert.EndsWith("\n", d, StringComparison.Ordinal));
        Assert.All(documents, d => Assert.True(Encoding.UTF8.GetByteCount(d) <= TextCut.MaxBytes));
        Assert.Equal(text, string.Concat(documents));
    }

    [Fact]
    public void BigTextWithoutLineEndsIsCutAtCharacters()
    {
        var text = "a" + string.Concat(Enumerable.Repeat("€😀", TextCut.MaxBytes / 6));
        var documents = Read(_folder.Write("big.txt", text));
        Assert.Equal(2, documents.Count);
        Assert.Equal(text, string.Concat(documents));
    }

    [Fact]
    public void JsonLinesLargerThanAPieceAreReadWhole()
    {
        var big = new string('x', 3 << 20);
        var documents = Read(_folder.Write("a.jsonl", $"{{\"text\":\"a\"}}\n\n{{\"other\":[{{\"text\":1}}],\"text\":\"{big}\"}}\r\n{{\"text\":\"\\u00e9\\n\"}}\n"));
        Assert.Equal(["a", big, "é\n"], documents);
    }

    [Fact]
    public void JsonFieldIsSelectable() =>
        Assert.Equal(["b"], Read(_folder.Write("a.jsonl", "{\"text\":\"a\",\"content\":\"b\"}"), "content"));

    [Theory]
    [InlineData("{\"text\":\"a\"}\n{\"text\":", "line 2 (offset 13) is not valid JSON")]
    [InlineData("{\"text\":\"a\"}\n\n{\"txt\":\"a\"}", "line 3 (offset 14) has no property 'text'. Name the property that holds the text in text_field.")]
    [InlineData("{\"text\":5}", "line 1 (offset 0) has a 'text' that is not a string")]
    [InlineData("[1]", "line 1 (offset 0) is not a JSON object")]
    [InlineData("{\"text\":\"a\"} x", "line 1 (offset 0) is not valid JSON")]
    [InlineData("{\"text\":\"\\ud800\"}", "line 1 (offset 0) is not valid JSON")]
    public void BrokenJsonLineIsNamed(string content, string message)
    {
        var path = _folder.Write("a.jsonl", content);
        var exception = Assert.Throws<TextSourceException>(() => Read(path));
        Assert.Equal(TextSourceProblem.Invalid, exception.Problem);
        Assert.StartsWith($"'{path}' {message}", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void BrokenJsonLineFarIntoAFileHasItsNumber()
    {
        var path = _folder.Write("a.jsonl", string.Concat(Enumerable.Repeat("{\"text\":\"some words to fill more than a piece\"}\n", 50_000)) + "{");
        Assert.Contains("line 50001 ", Assert.Throws<TextSourceException>(() => Read(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void InvalidUtf8NamesFileAndOffset()
    {
        var path = _folder.Write("a.txt", [.. "abc é"u8, 0xE9, .. "def"u8]);
        var exception = Assert.Throws<TextSourceException>(() => Read(path));
        Assert.Equal(TextSourceProblem.Invalid, exception.Problem);
        Assert.StartsWith($"'{path}' is not UTF-8: invalid byte 0xE9 at offset 6.", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void InvalidUtf8InALaterPieceHasItsOffsetInTheFile()
    {
        var lines = string.Concat(Enumerable.Repeat("0123456789abcde\n", (TextCut.MaxBytes / 16) + 10));
        var path = _folder.Write("a.txt", [.. Encoding.UTF8.GetBytes(lines), 0xFF]);
        Assert.Contains($"at offset {lines.Length}.", Assert.Throws<TextSourceException>(() => Read(path)).Message, StringComparison.Ordinal);
        var json = _folder.Write("b.jsonl", [.. "{\"text\":\"a\"}\n{\"text\":\""u8, 0xFF, .. "\"}\n"u8]);
        Assert.Contains("at offset 22.", Assert.Throws<TextSourceException>(() => Read(json)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Utf16IsRecognized()
    {
        var path = _folder.Write("a.txt", Encoding.Unicode.GetPreamble().Concat(Encoding.Unicode.GetBytes("text")).ToArray());
        Assert.Contains("looks like UTF-16", Assert.Throws<TextSourceException>(() => Read(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DamagedArchiveIsNamed()
    {
        var gzip = Gzip(string.Concat(Enumerable.Range(0, 10_000)));
        foreach (var bytes in new[] { gzip[..(gzip.Length / 2)], "not gzip at all"u8.ToArray() })
        {
            var path = _folder.Write("a.txt.gz", bytes);
            Assert.Contains($"'{path}' is not a whole gzip file", Assert.Throws<TextSourceException>(() => Read(path)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void ArchiveThatExplodesIsRefused()
    {
        using var bytes = new MemoryStream();
        using (var gzip = new GZipStream(bytes, CompressionLevel.SmallestSize, leaveOpen: true))
        {
            var line = new byte[1 << 20];
            line.AsSpan().Fill((byte)'\n');
            for (var i = 0; i < 120; i++)
            {
                gzip.Write(line);
            }
        }

        var path = _folder.Write("bomb.txt.gz", bytes.ToArray());
        Assert.Contains("when decompressed", Assert.Throws<TextSourceException>(() => Read(path)).Message, StringComparison.Ordinal);
    }

    private static List<string> Read(string path, string field = "text") => SourceReading.ReadAsync([path], field).GetAwaiter().GetResult().Documents;

    private static byte[] Gzip(string text)
    {
        using var bytes = new MemoryStream();
        using (var gzip = new GZipStream(bytes, CompressionLevel.Fastest, leaveOpen: true))
        {
            gzip.Write(Encoding.UTF8.GetBytes(text));
        }

        return bytes.ToArray();
    }
}
