using System.Text;
using LlmPipeline.Fakes;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Tests.Sources;

public sealed class SourceUnitTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task DocumentsDoNotDependOnTheSizeOfUnits()
    {
        _folder.Write("a.txt", string.Concat(Enumerable.Range(0, 1_500_000).Select(i => $"line {i} é\n")));
        _folder.Write("b.jsonl", string.Concat(Enumerable.Range(0, 500).Select(i => $"{{\"text\":\"{i} {new string('x', i)}\"}}\r\n")) + "\n\n{\"text\":\"last\"}");
        for (var i = 0; i < 20; i++)
        {
            _folder.Write($"c/{i}.md", $"document {i}");
        }

        var (expected, _) = await SourceReading.ReadAsync([_folder.Path], unitBytes: long.MaxValue);
        Assert.Equal(501 + 20 + 4, expected.Count);
        foreach (var unitBytes in new[] { 997, 4096, 1 << 20, TextCut.StepBytes, 20 << 20 })
        {
            Assert.Equal(expected, (await SourceReading.ReadAsync([_folder.Path], unitBytes: unitBytes)).Documents);
        }
    }

    [Fact]
    public async Task LinesBelongToOneRangeWhereverItBegins()
    {
        var path = _folder.Write("a.jsonl", "{\"text\":\"1\"}\n\n{\"text\":\"22\"}\n{\"text\":\"333\"}\n");
        for (var unitBytes = 1; unitBytes < 60; unitBytes++)
        {
            // Files below the cost of a file are not divided, so the ranges are made here.
            var file = Assert.Single(await SourceFiles.FindAsync([path], new SourceOptions()));
            var documents = new List<string>();
            for (long start = 0; start < file.Length; start += unitBytes)
            {
                var unit = new SourceUnit([file], new SourceRange(start, start + unitBytes));
                await foreach (var piece in new PieceReader(new SourceOptions(), "text").ReadAsync(unit))
                {
                    documents.AddRange(new PieceParser("text").Parse(piece).Documents.Select(d => d.Text));
                }
            }

            Assert.Equal(["1", "22", "333"], documents);
        }
    }

    [Fact]
    public async Task UnitsOfSmallFilesAreBoundedByBytesAndByCount()
    {
        for (var i = 0; i < 100; i++)
        {
            _folder.Write($"{i:00}.txt", "tiny");
        }

        var files = await SourceFiles.FindAsync([_folder.Path], new SourceOptions());
        var units = SourceUnits.Plan(files, 10 * 4096).ToList();
        Assert.Equal(10, units.Count);
        Assert.All(units, u => Assert.Equal(10, u.Files.Count));
        Assert.Equal(files, units.SelectMany(u => u.Files));
    }

    [Fact]
    public async Task XmlDocumentationIsOneUnit()
    {
        foreach (var name in new[] { "a.txt", "b.md", "z.txt" })
        {
            _folder.Write(name, "text");
        }

        SourceFile[] xml = [.. "12".Select(c => SourceFile.Create(_folder.Write($"{c}.xml", "<doc/>"), SourceFormat.XmlDocumentation))];
        var files = await SourceFiles.FindAsync([_folder.Path], new SourceOptions());
        var text = files.Where(f => f.Format == SourceFormat.PlainText).ToList();
        var units = SourceUnits.Plan([text[0], xml[0], text[1], xml[1], text[2]], 1).ToList();
        Assert.Equal([[text[0]], xml, [text[1]], [text[2]]], units.Select(u => u.Files));
    }

    [Fact]
    public void UnitsSurviveJson()
    {
        var modified = new DateTime(2026, 11, 25, 1, 2, 3, DateTimeKind.Utc);
        SourceUnit[] units =
        [
            new([new SourceFile("/data/é/a.txt", 5, modified, SourceFormat.PlainText), new SourceFile("/data/é/b.jsonl.gz", 7, modified.AddTicks(1), SourceFormat.JsonLines, SourceCompression.Gzip)]),
            new([new SourceFile("https://host/x.jsonl?a=1", 9, default, SourceFormat.JsonLines, Identity: "etag:\"1\"")], new SourceRange(3, long.MaxValue)),
        ];
        foreach (var unit in units)
        {
            var read = SourceUnit.FromJson(unit.ToJson());
            Assert.Equal(unit.Files, read.Files);
            Assert.Equal(unit.Range, read.Range);
            Assert.Equal(unit.Bytes, read.Bytes);
        }

        Assert.DoesNotContain("/data/é/a", Encoding.UTF8.GetString(units[0].ToJson()), StringComparison.Ordinal);
        Assert.Throws<InvalidDataException>(() => SourceUnit.FromJson("{}"u8));
        Assert.Throws<InvalidDataException>(() => SourceUnit.FromJson("[]x"u8));
    }

    [Fact]
    public async Task FileThatChangesAfterItWasFoundIsNamed()
    {
        var path = _folder.Write("a.txt", "one");
        var files = await SourceFiles.FindAsync([path], new SourceOptions());
        _folder.Write("a.txt", "other");
        var exception = await Assert.ThrowsAsync<TextSourceException>(() => SourceReading.ReadAsync(files, onInvalid: InvalidRecords.Skip));
        Assert.Equal(TextSourceProblem.Changed, exception.Problem);
        Assert.Equal($"'{path}' changed after the dataset was created. Create it again.", exception.Message);
    }

    [Fact]
    public void FileListGivesBackWhatWasAdded()
    {
        var files = Enumerable.Range(0, 3000).Select(i => new SourceFile(
            $"/folder-{i / 100}/{new string('é', i % 700)}{i}.txt", i, new DateTime(i, DateTimeKind.Utc), (SourceFormat)(i % 3), (SourceCompression)(i % 2), i % 5 == 0 ? $"id{i}" : null)).ToList();
        var list = new SourceFileList();
        files.ForEach(list.Add);
        Assert.Equal(files, list);
        Assert.Equal(files[2999], list[2999]);
    }
}
