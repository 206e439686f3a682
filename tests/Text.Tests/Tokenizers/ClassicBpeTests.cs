using System.Text;
using LlmPipeline.Fakes;

namespace LlmPipeline.Text.Tests.Tokenizers;

public sealed class ClassicBpeTests
{
    [Fact]
    public void TheReferenceCorpusGivesTheReferenceMergesAndSegmentation()
    {
        var words = TestTexts.Count(ClassicBpe.Splitter, File.ReadLines(TestData.PathOf("bpe-reference/corpus.en")).Select(l => l + "\n"));
        var bpe = ClassicBpe.Learn(words, 1000);
        var codes = new StringWriter();
        bpe.Write(codes);
        Assert.Equal(File.ReadAllText(TestData.PathOf("bpe-reference/bpe.ref")), codes.ToString());
        var segmented = File.ReadLines(TestData.PathOf("bpe-reference/corpus.en")).Select(l => bpe.Segment(l));
        Assert.Equal(File.ReadLines(TestData.PathOf("bpe-reference/corpus.bpe.ref.en")), segmented);
    }

    [Fact]
    public void TheTokenizerSegmentsAsTheMergesDo()
    {
        var words = TestTexts.Count(ClassicBpe.Splitter, File.ReadLines(TestData.PathOf("bpe-reference/corpus.en")).Select(l => l + "\n"));
        var tokenizer = TokenizerTrainer.Train(words, new TokenizerOptions { Kind = "classic-bpe", VocabularySize = 1200 });
        var merges = ClassicBpe.Learn(words, 2000);
        Assert.InRange(tokenizer.VocabularySize, 1000, 1200);
        foreach (var line in File.ReadLines(TestData.PathOf("bpe-reference/corpus.en")).Take(200))
        {
            Assert.Equal(Normal(line), tokenizer.Decode(tokenizer.Encode(line)));
        }

        Assert.True(tokenizer.Encode("cement").Length >= merges.SegmentWord("cement").Count);
    }

    [Fact]
    public void TiesGoToTheGreatestPair()
    {
        var words = TestTexts.Count(ClassicBpe.Splitter, "ab ab cd cd \U0001F600\U0001F601 \U0001F600\U0001F601 \uffee\uffef \uffee\uffef");
        Assert.Equal(["\U0001F600 \U0001F601</w>", "\uffee \uffef</w>", "c d</w>", "a b</w>"], ClassicBpe.Learn(words, 10).Merges.Select(m => $"{m.Left} {m.Right}"));
    }

    [Fact]
    public void WordsSeparatedBySingleSpacesAndLineFeedsComeBack()
    {
        const string Text = "the low lower\nlowest\n\nthe low";
        var tokenizer = TokenizerTrainer.Train(TestTexts.Count(ClassicBpe.Splitter, Text), new TokenizerOptions { Kind = "classic-bpe", VocabularySize = 60 });
        Assert.Equal(Text, tokenizer.Decode(tokenizer.Encode(Text)));
        Assert.Equal("the low\nlow", tokenizer.Decode(tokenizer.Encode("  the \t low \n low  ")));
        Assert.Equal("classic-bpe", tokenizer.Kind);
        Assert.Equal([1, 1], tokenizer.Encode("xz").Select(id => tokenizer.UnknownId == id ? 1 : 0));
    }

    [Theory]
    [InlineData("t h\n", "line 1 has to be '#version: 0.2'")]
    [InlineData("#version: 0.2\nt h\nabc\n", "line 3 is not a pair")]
    [InlineData("#version: 0.2\na b c\n", "line 2 is not a pair")]
    public void BadCodeFilesAreRefusedWithTheLine(string text, string message) =>
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => ClassicBpe.Read(new StringReader(text), "codes")).Message, StringComparison.Ordinal);

    [Fact]
    public void CodesAreReadBack()
    {
        using var reader = new StreamReader(TestData.PathOf("bpe-reference/bpe.ref"), Encoding.UTF8);
        var bpe = ClassicBpe.Read(reader, "bpe.ref");
        Assert.Equal(1000, bpe.Merges.Count);
        Assert.Equal("ir@@ on c@@ ement", bpe.Segment("iron cement"));
    }

    private static string Normal(string line) => string.Join(' ', line.Split(' ', StringSplitOptions.RemoveEmptyEntries));
}
