using System.IO.Compression;
using System.Text;
using LlmPipeline.Fakes;
using LlmPipeline.Text.Sources;
using Parquet;
using Parquet.Schema;

namespace LlmPipeline.Text.Tests.Sources;

public sealed class SourceFormatTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string, string, string> Contents => new()
    {
        { ".txt", "one\r\ntwo é\0", "one\r\ntwo é\0" },
        { ".md", "# one\n", "# one\n" },
        { ".jsonl", "{\"text\":\"one\"}\r\n\r\n{\"a\":[{}],\"text\":\"t\\u0077\\ud83d\\ude00\\n\"}", "one|tw😀\n" },
        { ".csv", "id,text,more\r\n1,one,x\r\n2,\"a \"\"b\"\",\r\nc\",x\r\n\r\n3,,x\r\n", "one|a \"b\",\r\nc|" },
        { ".csv", "text;id\none, two;2\n", "one, two" },
        { ".tsv", "id\ttext\n1\tone, two\n2\t\"a\tb\"", "one, two|a\tb" },
        { ".xml", "<doc><members><member name='T:N.A'><summary>One.</summary></member><member name='T:N.B'><summary>Two.</summary></member></members></doc>", "# N.A\nOne.\n|# N.B\nTwo.\n" },
    };

    [Theory]
    [MemberData(nameof(Contents))]
    public async Task EachFormatIsReadPlainAndCompressedWithAndWithoutByteOrderMark(string ending, string content, string expected)
    {
        foreach (byte[] mark in (byte[][])[[], [0xEF, 0xBB, 0xBF]])
        {
            byte[] bytes = [.. mark, .. Encoding.UTF8.GetBytes(content)];
            var half = bytes.Length / 2;
            foreach (var (suffix, compressed) in new[]
            {
                ("", bytes), (".gz", Gzip(bytes)), (".zst", Zstd(bytes)),
                (".gz", [.. Gzip(bytes[..half]), .. Gzip(bytes[half..])]), (".zst", [.. Zstd(bytes[..half]), .. Zstd([]), .. Zstd(bytes[half..])]),
            })
            {
                var path = _folder.Write("a" + ending + suffix, compressed);
                Assert.Equal(expected.Split('|'), (await SourceReading.ReadAsync([path])).Documents);
            }
        }
    }

    [Fact]
    public async Task CsvLargerThanAPieceIsReadWholeWithQuotedLineEndsAnywhere()
    {
        var records = Enumerable.Range(0, 60_000).Select(i => i % 3 == 0 ? $"{i}\n\"{i}\",\r\n{new string('x', i % 50)}" : $"plain {i}").ToList();
        var text = "n,text\n" + string.Concat(records.Select((r, i) => $"{i},\"{r.Replace("\"", "\"\"", StringComparison.Ordinal)}\"\n"));
        Assert.True(text.Length > 3 << 20 || text.Length > 1 << 20);
        var (documents, skipped) = await SourceReading.ReadAsync([_folder.Write("a.csv", text)]);
        Assert.Equal(records, documents);
        Assert.Equal(0, skipped.Count);
    }

    [Fact]
    public async Task CsvErrorsNameLineAndOffset()
    {
        var path = _folder.Write("a.csv", "text,n\n\"two\nlines\",1\nx\n");
        Assert.StartsWith($"'{path}' line 4 (offset 21) has 1 columns where the header has 2.", (await FailAsync(path)).Message, StringComparison.Ordinal);
        var (documents, skipped) = await SourceReading.ReadAsync([path], onInvalid: InvalidRecords.Skip);
        Assert.Equal(["two\nlines"], documents);
        Assert.Equal(1, skipped.Count);
        Assert.Contains("has no column 'body' but 'text', 'n'.", (await Assert.ThrowsAsync<TextSourceException>(() => SourceReading.ReadAsync([path], "body"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task CsvWithAQuoteThatNeverEndsIsRefusedWhereItBegins()
    {
        var path = _folder.Write("a.csv", "text\nfine\n\"" + string.Concat(Enumerable.Repeat("0123456789\n", 1_600_000)));
        Assert.Contains("line 3 (offset 10) begins a record of more than 15 MiB. Is a quote not closed?", (await FailAsync(path)).Message, StringComparison.Ordinal);
        var (documents, skipped) = await SourceReading.ReadAsync([path], onInvalid: InvalidRecords.Skip);
        Assert.Equal((1, 1L), (documents.Count, skipped.Count));
    }

    [Fact]
    public async Task CsvRecordsThatAreNotUtf8AreSkippedAlone()
    {
        var path = _folder.Write("a.csv", [.. "text,n\na,1\n\"b\n"u8, 0xFF, .. "\",2\nc,3\nd\n"u8]);
        Assert.Contains("not UTF-8: invalid byte 0xFF at offset 14.", (await FailAsync(path)).Message, StringComparison.Ordinal);
        var (documents, skipped) = await SourceReading.ReadAsync([path], onInvalid: InvalidRecords.Skip);
        Assert.Equal(["a", "c"], documents);
        Assert.Equal(2, skipped.Count);
        Assert.Contains("line 6 ", skipped.Reasons[1], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("text")]
    [InlineData("meta.body")]
    public async Task ParquetIsReadByRowGroupWhateverTheUnits(string field)
    {
        var path = _folder.Write("a.parquet", await ParquetAsync(5, 700));
        var expected = Enumerable.Range(0, 3500).Select(i => $"{(field == "text" ? "row" : "body")} {i} é").ToList();
        foreach (var unitBytes in new[] { 5000L, 9000, long.MaxValue })
        {
            Assert.Equal(expected, (await SourceReading.ReadAsync([path], field, unitBytes: unitBytes)).Documents);
        }

        Assert.Contains("has no column 'txt' but 'id', 'text', 'meta.body'", (await Assert.ThrowsAsync<TextSourceException>(() => SourceReading.ReadAsync([path], "txt"))).Message, StringComparison.Ordinal);
        Assert.Contains("does not hold one text a row", (await Assert.ThrowsAsync<TextSourceException>(() => SourceReading.ReadAsync([path], "id"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ParquetRowWithoutTextIsNamedOrSkipped()
    {
        var path = _folder.Write("a.parquet", await ParquetAsync(2, 3, withNull: true));
        Assert.Equal($"'{path}' row 2 of row group 0 has no text in column 'text'. Remove the row.", (await FailAsync(path)).Message);
        var (documents, skipped) = await SourceReading.ReadAsync([path], onInvalid: InvalidRecords.Skip);
        Assert.Equal((4, 2L), (documents.Count, skipped.Count));
    }

    [Fact]
    public async Task LongTextsOfRecordsAreCutLikePlainText()
    {
        var text = string.Concat(Enumerable.Range(0, 1_200_000).Select(i => $"line {i}\n"));
        var expected = (await SourceReading.ReadAsync([_folder.Write("a.txt", text)])).Documents;
        Assert.Equal(2, expected.Count);
        Assert.Equal(expected, (await SourceReading.ReadAsync([_folder.Write("a.csv", "text\n\"" + text + "\"\n")])).Documents);
        Assert.Equal(expected, (await SourceReading.ReadAsync([_folder.Write("a.jsonl", "{\"text\":\"" + text.Replace("\n", "\\n", StringComparison.Ordinal) + "\"}")])).Documents);
    }

    [Fact]
    public async Task TruncatedArchiveIsAnErrorAtEveryByte()
    {
        foreach (var (ending, whole) in new[] { (".gz", Gzip("some text of a file"u8.ToArray())), (".zst", Zstd("some text of a file"u8.ToArray())) })
        {
            for (var length = 1; length < whole.Length; length++)
            {
                var path = _folder.Write("a.txt" + ending, whole[..length]);
                Assert.Contains($"'{path}' is not a whole ", (await FailAsync(path)).Message, StringComparison.Ordinal);
                var (documents, skipped) = await SourceReading.ReadAsync([path], onInvalid: InvalidRecords.Skip);
                Assert.Equal((0, 1L), (documents.Count, skipped.Count));
            }
        }
    }

    [Fact]
    public async Task WhatComesBeforeTheEndOfATruncatedFileIsKeptWhenSkipping()
    {
        var lines = string.Concat(Enumerable.Range(0, 200_000).Select(i => $"{{\"text\":\"{Convert.ToHexString(BitConverter.GetBytes(i * 2654435761))}\"}}\n"));
        var whole = Gzip(Encoding.UTF8.GetBytes(lines));
        var path = _folder.Write("a.jsonl.gz", whole[..^(whole.Length / 3)]);
        var next = _folder.Write("b.txt", "next");
        var (documents, skipped) = await SourceReading.ReadAsync([path, next], onInvalid: InvalidRecords.Skip);
        Assert.InRange(documents.Count, 50_000, 150_000);
        Assert.Equal("next", documents[^1]);
        Assert.Equal(1, skipped.Count);
    }

    internal static byte[] Gzip(byte[] content)
    {
        using var bytes = new MemoryStream();
        using (var gzip = new GZipStream(bytes, CompressionLevel.Fastest, leaveOpen: true))
        {
            gzip.Write(content);
        }

        // An empty stream makes no archive at all.
        return bytes.ToArray();
    }

    internal static byte[] Zstd(byte[] content)
    {
        using var compressor = new ZstdSharp.Compressor();
        return compressor.Wrap(content).ToArray();
    }

    internal static async Task<byte[]> ParquetAsync(int groups, int rows, bool withNull = false)
    {
        var schema = new ParquetSchema(new DataField<int>("id"), new DataField<string>("text"), new StructField("meta", new DataField<string>("body")));
        using var bytes = new MemoryStream();
        await using (var writer = await ParquetWriter.CreateAsync(schema, bytes, new ParquetOptions { CompressionMethod = CompressionMethod.Snappy }))
        {
            for (var g = 0; g < groups; g++)
            {
                using var group = writer.CreateRowGroup();
                var numbers = Enumerable.Range(g * rows, rows).ToArray();
                await group.WriteAsync<int>(schema.DataFields[0], numbers);
                await group.WriteAsync(schema.DataFields[1], numbers.Select(i => withNull && i % rows == 1 ? null! : $"row {i} é").ToArray());
                await group.WriteAsync(schema.DataFields[2], numbers.Select(i => $"body {i} é").ToArray());
            }
        }

        return bytes.ToArray();
    }

    private static async Task<TextSourceException> FailAsync(string path)
    {
        var exception = await Assert.ThrowsAsync<TextSourceException>(() => SourceReading.ReadAsync([path]));
        Assert.Equal(TextSourceProblem.Invalid, exception.Problem);
        return exception;
    }
}
