using System.Text.Json;
using LlmPipeline.Fakes;

namespace LlmPipeline.Text.Tests.Tokenizers;

public sealed class BpeTrainerTests
{
    [Fact]
    public void MergesAreThoseOfCountingAnewEachTime()
    {
        var text = File.ReadAllText(TestData.PathOf("udhr/fra.txt"));
        var words = new List<string>();
        for (var i = 0; i < text.Length; i += words[^1].Length)
        {
            words.Add(text[i..(i + Gpt2Splitter.FirstWordLength(text.AsSpan(i)))]);
        }

        var trainer = new BpeTrainer();
        trainer.Add(text);
        var expected = ReferenceBpe.Learn(words.GroupBy(w => w).Select(g => (g.Key, (long)g.Count())), 400);
        Assert.Equal(expected, MergesOf(trainer.Train(657)));
    }

    [Fact]
    public void RepeatedLettersAreCountedWithoutErrors()
    {
        // Overlapping pairs are where incremental counts go wrong.
        List<(string Word, long Count)> words = [("aaaaaaa", 5), ("aabaaab", 3), ("ababababa", 4), ("baaaab", 2), ("bbbbb", 6)];
        var trainer = new BpeTrainer();
        foreach (var (word, count) in words)
        {
            for (var n = 0; n < count; n++)
            {
                trainer.Add(word);
            }
        }

        var expected = ReferenceBpe.Learn(words, 10);
        Assert.Equal(expected, MergesOf(trainer.Train(267)).Take(10));
    }

    [Fact]
    public void AnyNumberOfThreadsAndAnyOrderGiveTheSameFile()
    {
        var texts = TestTexts.Languages.Take(12).Select(l => l.Text).ToList();
        var one = BpeTrainer.Count(texts, 1).Train(2000);
        var four = BpeTrainer.Count(Enumerable.Reverse(texts), 4).Train(2000);
        var merged = new BpeTrainer();
        foreach (var text in texts)
        {
            merged.Merge(BpeTrainer.Count([text], 1));
        }

        Assert.Equal(one.ToJson(), four.ToJson());
        Assert.Equal(one.Hash, merged.Train(2000).Hash);
    }

    [Fact]
    public void WithoutRepeatedPairsTheVocabularyStaysSmall()
    {
        var trainer = new BpeTrainer();
        trainer.Add("ab cd");
        var tokenizer = trainer.Train(1000);
        Assert.Equal(257, tokenizer.VocabularySize);
        Assert.Equal(0, tokenizer.EndOfTextId);
        Assert.Equal(257, new BpeTrainer().Train(257).VocabularySize);
    }

    [Fact]
    public void TooSmallAVocabularyIsRefused() => Assert.Throws<ArgumentOutOfRangeException>(() => new BpeTrainer().Train(256));

    [Fact]
    public void CancellationStopsTheLearning()
    {
        var trainer = new BpeTrainer();
        trainer.Add("the the then then");
        Assert.Throws<OperationCanceledException>(() => trainer.Train(300, null, new CancellationToken(canceled: true)));
        Assert.Throws<OperationCanceledException>(() => BpeTrainer.Count(["a"], 2, new CancellationToken(canceled: true)));
    }

    [Fact]
    public void ProgressGrowsToOne()
    {
        var reports = new List<double>();
        BpeTrainer.Count(TestTexts.Languages.Take(3).Select(l => l.Text), 1).Train(800, reports.Add);
        Assert.Equal(reports.Order(), reports);
        Assert.Equal(1, reports[^1]);
        Assert.True(reports.Count > 4);
    }

    private static List<string> MergesOf(ITokenizer tokenizer)
    {
        using var json = JsonDocument.Parse(tokenizer.ToJson());
        return [.. json.RootElement.GetProperty("model").GetProperty("merges").EnumerateArray().Select(m => m.GetString()!)];
    }
}
