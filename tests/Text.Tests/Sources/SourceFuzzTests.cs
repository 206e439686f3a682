using System.Text;
using FsCheck;
using FsCheck.Fluent;
using LlmPipeline.Fakes;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Tests.Sources;

public sealed class SourceFuzzTests : IDisposable
{
    private const long MaxBytes = 512L << 20;

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string> Endings => [".txt", ".jsonl", ".csv", ".tsv", ".xml", ".parquet", ".txt.gz", ".jsonl.zst"];

    [Theory]
    [MemberData(nameof(Endings))]
    public async Task DamagedFileIsAClearErrorOrSkippedWhereverTheDamageIs(string ending)
    {
        var whole = await WholeAsync(ending);
        var random = new Random(7);
        for (var i = 0; i < 250; i++)
        {
            var bytes = (byte[])whole.Clone();
            for (var flips = random.Next(1, 4); flips > 0; flips--)
            {
                // Parquet's own structures are at the end.
                var at = ending == ".parquet" && i % 2 == 0 ? bytes.Length - 1 - random.Next(Math.Min(300, bytes.Length)) : random.Next(bytes.Length);
                bytes[at] ^= (byte)(1 << random.Next(8));
            }

            await RequireClearAsync(ending, i % 5 == 0 ? bytes[..random.Next(bytes.Length)] : bytes);
        }
    }

    [Theory]
    [MemberData(nameof(Endings))]
    public async Task TruncatedFileIsAClearErrorOrSkipped(string ending)
    {
        var whole = await WholeAsync(ending);
        for (var length = 0; length < whole.Length; length += 1 + (whole.Length / 200))
        {
            await RequireClearAsync(ending, whole[..length]);
        }
    }

    [Fact]
    public void AnyBytesAreReadOrRefused() => Prop.ForAll(
        ArbMap.Default.ArbFor<byte[]>(), Gen.Elements(Endings.Select(e => e.Data).ToArray()).ToArbitrary(),
        (bytes, ending) => RequireClearAsync(ending, bytes).WaitAsync(SourceReading.Patience).GetAwaiter().GetResult()).QuickCheckThrowOnFailure();

    [Fact]
    public void ScannerOfLongLinesAgreesWithTheReaderOfShortOnes()
    {
        string[] parts = ["{", "}", "[", "]", ":", ",", "\"text\"", "\"te\\u0078t\"", "\"a\"", "\"\\n\\u00e9\\ud83d\\ude00é\"", "\"\\ud800\"", "1", "-0.5e+3", "01", "1.", "true", "nul", "null", " ", "\"", "\\", "\t",
            "{\"text\":\"x\"", "\"text\":\"y\"", "\"b\":[1,{\"text\":2}]"];
        Prop.ForAll(Gen.Elements(parts).ListOf().ToArbitrary(), Gen.Choose(1, 9).ToArbitrary(), (tokens, chunk) =>
        {
            foreach (var line in new[] { string.Concat(tokens), "{\"text\":\"é" + string.Concat(tokens), "{\"text\":\"x\"," + string.Concat(tokens) + "}", "{\"a\":" + string.Concat(tokens) + ",\"text\":\"z\"}" })
            {
                var bytes = Encoding.UTF8.GetBytes(line);
                if (bytes.AsSpan().ContainsAnyExcept(" \t\r"u8))
                {
                    Assert.Equal(ReadShort(bytes), ReadLong(bytes, chunk));
                }
            }
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(2000));
    }

    [Fact]
    public async Task DeepJsonIsRefusedByLine()
    {
        var path = _folder.Write("a.jsonl", "{\"text\":\"a\"}\n{\"a\":" + new string('[', 10_000) + "\n{\"text\":\"b\",\"a\":" + new string('[', 9_000_000) + "}\n{\"text\":\"c\"}");
        Assert.Contains("line 2 (offset 13) is not valid JSON", (await Assert.ThrowsAsync<TextSourceException>(() => SourceReading.ReadAsync([path]))).Message, StringComparison.Ordinal);
        var (documents, skipped) = await SourceReading.ReadAsync([path], onInvalid: InvalidRecords.Skip);
        Assert.Equal(["a", "c"], documents);
        Assert.Equal(2, skipped.Count);
        Assert.Contains("nested more than 64 deep", skipped.Reasons[1], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("long.txt", "", "word ", "", 0)]
    [InlineData("long.jsonl", "{\"a\":1,\"text\":\"", "wörd \\n", "\"}\n", 0)]
    [InlineData("quote.csv", "text\n\"", "word\n", "", 1)]
    [InlineData("attribute.xml", "<doc><members><member name='", "T:N.A", "'/></members></doc>", 1)]
    [InlineData("deep.xml", "<doc><members><member name='T:N.A'>", "<a>", "", 1)]
    [InlineData("bomb.txt.gz", "", "a", "", 1)]
    [InlineData("bomb.jsonl.zst", "{\"text\":\"", "word ", "\"}", 1)]
    public async Task MemoryStaysBoundedWhateverTheInput(string name, string begin, string repeated, string end, int skipped)
    {
        var path = Path.Combine(_folder.Path, name);

        // What is read at a time and the runtime take up to 330; the text as a string would be 600 more.
        const int Megabytes = 300, MostMegabytes = 400;
        await using (var file = File.Create(path))
        await using (var content = name.EndsWith(".gz", StringComparison.Ordinal) ? new System.IO.Compression.GZipStream(file, System.IO.Compression.CompressionLevel.SmallestSize)
            : name.EndsWith(".zst", StringComparison.Ordinal) ? new ZstdSharp.CompressionStream(file) : (Stream)file)
        {
            var block = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat(repeated, (1 << 20) / Encoding.UTF8.GetByteCount(repeated))));
            content.Write(Encoding.UTF8.GetBytes(begin));
            for (var i = 0; i < Megabytes; i++)
            {
                content.Write(block);
            }

            content.Write(Encoding.UTF8.GetBytes(end));
        }

        var result = await ReaderProcess.ReadAsync(path);
        TestContext.Current.TestOutputHelper?.WriteLine($"{name}: peak {result.PeakBytes >> 20} MB");
        Assert.Equal(skipped, result.Skipped);
        Assert.InRange(result.PeakBytes, 1, MostMegabytes << 20);
        Assert.InRange(result.Longest, 0, TextCut.MaxBytes);
        if (skipped == 0)
        {
            Assert.InRange(result.Characters, Megabytes * 600_000L, Megabytes << 20);
        }
    }

    private static string? ReadShort(byte[] bytes)
    {
        var file = new SourceFile("a.jsonl", bytes.Length, default, SourceFormat.JsonLines);
        try
        {
            return JsonLines.Parse(new SourcePiece(file, bytes, 1, 1, 0), "text", InvalidRecords.Fail).Documents[0].Text;
        }
        catch (TextSourceException)
        {
            return null;
        }
    }

    private static string? ReadLong(byte[] bytes, int chunk)
    {
        var cutter = new TextCutter();
        var scanner = new JsonTextScanner("text", cutter);
        try
        {
            for (var i = 0; i < bytes.Length; i += chunk)
            {
                scanner.Push(bytes.AsSpan(i, Math.Min(chunk, bytes.Length - i)));
            }

            scanner.Finish();
        }
        catch (JsonScanException)
        {
            return null;
        }

        return cutter.TryTake(out var text) ? Encoding.UTF8.GetString(text.Span) : "";
    }

    private static async Task<byte[]> WholeAsync(string ending)
    {
        var json = Encoding.UTF8.GetBytes("{\"text\":\"one é\",\"n\":[1,2.5e3,null]}\r\n{\"text\":\"\\ud83d\\ude00\"}\n");
        return ending switch
        {
            ".txt" => "some text é 😀\r\nof two lines"u8.ToArray(),
            ".jsonl" => json,
            ".csv" => "id,text\r\n1,\"a \"\"q\"\" é\nb\"\r\n2,plain\r\n"u8.ToArray(),
            ".tsv" => "id\ttext\n1\tone é\n2\t\"x\ty\"\n"u8.ToArray(),
            ".xml" => "<?xml version=\"1.0\"?><doc><members><member name=\"M:N.A.B(System.Int32)\"><summary>Text &amp; <see cref=\"T:N.A\"/> <code>a\nb</code></summary></member></members></doc>"u8.ToArray(),
            ".parquet" => await SourceFormatTests.ParquetAsync(2, 20),
            ".txt.gz" => SourceFormatTests.Gzip(Encoding.UTF8.GetBytes("some text, some more text, and more")),
            _ => SourceFormatTests.Zstd(json),
        };
    }

    // Read with an error that names the file, or to its end with records left out; and with little memory either way.
    private async Task RequireClearAsync(string ending, byte[] bytes)
    {
        var path = _folder.Write("damaged" + ending, bytes);
        var before = GC.GetTotalAllocatedBytes();
        try
        {
            await SourceReading.ReadAsync([path]);
        }
        catch (TextSourceException exception)
        {
            Assert.Equal(TextSourceProblem.Invalid, exception.Problem);
            Assert.Contains($"'{path}'", exception.Message, StringComparison.Ordinal);
        }

        await SourceReading.ReadAsync([path], onInvalid: InvalidRecords.Skip);
        Assert.InRange(GC.GetTotalAllocatedBytes() - before, 0, MaxBytes);
    }
}
