using LlmPipeline.Fakes;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Tests.Sources;

public sealed class SourceFilesTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void FolderIsReadRecursivelyInOrdinalOrderWithoutHiddenAndUnknownFiles()
    {
        foreach (var file in new[] { "b.txt", "a/z.md", "a/B.TXT", "c.jsonl.gz", "image.png", ".hidden.txt", ".git/x.txt" })
        {
            _folder.Write(file, "x");
        }

        Assert.Equal(["a/B.TXT", "a/z.md", "b.txt", "c.jsonl.gz"], Names(_folder.Path));
    }

    [Theory]
    [InlineData("*.txt", "a.txt|b1.txt")]
    [InlineData("b?.*", "b1.txt|b2.md")]
    [InlineData("**/*.txt", "a.txt|b1.txt|d/e/f.txt|d/g.txt")]
    [InlineData("d/**", "d/e/f.txt|d/g.txt")]
    [InlineData("d/*/f.txt", "d/e/f.txt")]
    public void GlobsMatchWithinAndAcrossFolders(string glob, string expected)
    {
        foreach (var file in new[] { "a.txt", "b1.txt", "b2.md", "d/g.txt", "d/e/f.txt" })
        {
            _folder.Write(file, "x");
        }

        Assert.Equal(expected.Split('|'), Names(Path.Combine(_folder.Path, glob)));
    }

    [Fact]
    public void FileNamedTwiceIsReadOnce()
    {
        var file = _folder.Write("a.txt", "x");
        Assert.Single(Find([file, _folder.Path, Path.Combine(_folder.Path, "*.txt")]));
    }

    [Fact]
    public void LinksToFoldersAreNotFollowed()
    {
        _folder.Write("d/a.txt", "x");
        Directory.CreateSymbolicLink(Path.Combine(_folder.Path, "d", "circle"), _folder.Path);
        Assert.Equal(["d/a.txt"], Names(_folder.Path));
    }

    [Theory]
    [InlineData("missing", "does not exist")]
    [InlineData("missing/*.txt", "does not exist")]
    [InlineData("*.jsonl", "names no file that ends in .txt, .md, .jsonl")]
    [InlineData("data.pdf", "is not of a known format")]
    public void SourceThatNamesNothingReadableSaysSo(string source, string message)
    {
        _folder.Write("data.pdf", "x");
        var exception = Assert.Throws<TextSourceException>(() => Find([Path.Combine(_folder.Path, source)]));
        Assert.Equal(TextSourceProblem.NotFound, exception.Problem);
        Assert.Contains(message, exception.Message, StringComparison.Ordinal);
        Assert.Contains(source, exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FingerprintChangesWithLengthTimeAndPath()
    {
        var path = _folder.Write("a.txt", "x");
        var file = Assert.Single(Find([path]));
        string[] fingerprints =
        [
            SourceFile.Fingerprint([file]),
            SourceFile.Fingerprint([file with { Length = 2 }]),
            SourceFile.Fingerprint([file with { Modified = file.Modified.AddTicks(1) }]),
            SourceFile.Fingerprint([file with { Path = path + "2" }]),
        ];
        Assert.Equal(4, fingerprints.Distinct().Count());
        Assert.Equal(fingerprints[0], SourceFile.Fingerprint(Find([path])));
    }

    private static IReadOnlyList<SourceFile> Find(string[] sources) => SourceFiles.FindAsync(sources, new SourceOptions()).GetAwaiter().GetResult();

    private string[] Names(string source) =>
        [.. Find([source]).Select(f => Path.GetRelativePath(_folder.Path, f.Path).Replace('\\', '/'))];
}
