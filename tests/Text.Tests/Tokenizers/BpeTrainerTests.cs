using System.Text;
using System.Text.Json;
using FsCheck;
using FsCheck.Fluent;

namespace LlmPipeline.Text.Tests.Tokenizers;

public sealed class BpeTrainerTests
{
    [Fact]
    public void MergesAreThoseOfCountingAnewEachTime()
    {
        var text = File.ReadAllText(Fakes.TestData.PathOf("udhr/fra.txt"));
        var expected = ReferenceBpe.Learn(TestTexts.Split(WordSplitter.Default, text).GroupBy(w => w).Select(g => (g.Key, (long)g.Count())), 400);
        Assert.Equal(expected, MergesOf(BpeTrainer.Train(TestTexts.Count(WordSplitter.Default, text), new BpeOptions(657))));
    }

    [Fact]
    public void RepeatedLettersAreCountedWithoutErrors()
    {
        // Overlapping pairs are where incremental counts go wrong.
        List<(string Word, long Count)> words = [("aaaaaaa", 5), ("aabaaab", 3), ("ababababa", 4), ("baaaab", 2), ("bbbbb", 6)];
        Assert.Equal(ReferenceBpe.Learn(words, 10), MergesOf(BpeTrainer.Train(Counts(words), new BpeOptions(267))).Take(10));
    }

    [Fact]
    public void AnyWordsGiveTheMergesOfCountingAnewEachTime()
    {
        // Few letters, so that the same token is made in several ways and pairs overlap.
        var words = Gen.Choose(1, 12).SelectMany(n => Gen.Elements("abc".ToCharArray()).ArrayOf(n)).Select(c => new string(c)).NonEmptyListOf();
        Prop.ForAll(words.ToArbitrary(), list =>
        {
            var counts = list.GroupBy(w => w).Select(g => (g.Key, (long)g.Count())).ToList();
            var learned = MergesOf(BpeTrainer.Train(Counts(counts), new BpeOptions(277) { MinFrequency = 1 }));
            return learned.Take(20).SequenceEqual(ReferenceBpe.Learn(counts, learned.Count));
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(300));
    }

    [Fact]
    public void AnyNumberOfThreadsAndAnyOrderGiveTheSameFile()
    {
        var texts = TestTexts.Languages.Take(12).Select(l => (ReadOnlyMemory<byte>)Encoding.UTF8.GetBytes(l.Text)).ToList();
        var one = BpeTrainer.Train(WordCounts.Count(texts, WordSplitter.Default, 1), new BpeOptions(2000));
        var four = BpeTrainer.Train(WordCounts.Count(Enumerable.Reverse(texts), WordSplitter.Default, 4), new BpeOptions(2000));
        var merged = new WordCounts();
        foreach (var text in texts)
        {
            merged.Merge(WordCounts.Count([text], WordSplitter.Default, 1));
        }

        Assert.Equal(one.ToJson(), four.ToJson());
        Assert.Equal(one.Hash, BpeTrainer.Train(merged, new BpeOptions(2000)).Hash);
    }

    [Fact]
    public void WithoutRepeatedPairsTheVocabularyStaysSmall()
    {
        var tokenizer = BpeTrainer.Train(TestTexts.Count(WordSplitter.Default, "ab cd"), new BpeOptions(1000));
        Assert.Equal(257, tokenizer.VocabularySize);
        Assert.Equal(0, tokenizer.EndOfTextId);
        Assert.Equal(257, BpeTrainer.Train(new WordCounts(), new BpeOptions(257)).VocabularySize);
    }

    [Fact]
    public void RarePairsAreMergedWhenAskedFor()
    {
        var words = Counts([("ab", 1), ("cd", 3), ("ef", 2)]);
        Assert.Equal(["c d", "e f", "a b"], MergesOf(BpeTrainer.Train(words, new BpeOptions(300) { MinFrequency = 1 })));
        Assert.Equal(["c d"], MergesOf(BpeTrainer.Train(words, new BpeOptions(300) { MinFrequency = 3 })));
    }

    [Fact]
    public void TooSmallAVocabularyIsRefused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => BpeTrainer.Train(new WordCounts(), new BpeOptions(256)));
        Assert.Throws<ArgumentOutOfRangeException>(() => BpeTrainer.Train(new WordCounts(), new BpeOptions(257) { SpecialTokens = ["<|pad|>"] }));
    }

    [Fact]
    public void CancellationStopsTheLearning()
    {
        var words = TestTexts.Count(WordSplitter.Default, "the the then then");
        Assert.Throws<OperationCanceledException>(() => BpeTrainer.Train(words, new BpeOptions(300), null, new CancellationToken(canceled: true)));
        Assert.Throws<OperationCanceledException>(() => WordCounts.Count([new byte[] { 65 }], WordSplitter.Default, 2, new CancellationToken(canceled: true)));
    }

    [Fact]
    public void ProgressGrowsToOne()
    {
        var reports = new List<double>();
        BpeTrainer.Train(TestTexts.Count(WordSplitter.Default, TestTexts.Languages.Take(3).Select(l => l.Text)), new BpeOptions(800), reports.Add);
        Assert.Equal(reports.Order(), reports);
        Assert.Equal(1, reports[^1]);
        Assert.True(reports.Count > 4);
    }

    private static WordCounts Counts(IEnumerable<(string Word, long Count)> words)
    {
        var counts = new WordCounts();
        foreach (var (word, count) in words)
        {
            counts.AddWord(Encoding.UTF8.GetBytes(word), count);
        }

        return counts;
    }

    private static List<string> MergesOf(ITokenizer tokenizer)
    {
        using var json = JsonDocument.Parse(tokenizer.ToJson());
        return [.. json.RootElement.GetProperty("model").GetProperty("merges").EnumerateArray().Select(m => m.GetString()!)];
    }
}
