using LlmPipeline.Fakes;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Text.Tests.NGrams;

/// <summary>Numbers that independent implementations of interpolated modified Kneser-Ney give on public text.</summary>
public sealed class PublishedLossTests
{
    [Theory]
    [InlineData(3, 2.038)]
    [InlineData(5, 1.561)]
    [InlineData(7, 1.5165)]
    public void LossOfTinyShakespeareCharacters(int order, double nats)
    {
        var text = File.ReadAllText(TestData.PathOf("tinyshakespeare/input.txt"));
        var tokenizer = CharacterTokenizer.Create(text.EnumerateRunes());
        var ids = tokenizer.Encode(text);
        var cut = ids.Length * 9 / 10;
        var model = NgramModel.Train(new ArraySplit(ids[..cut]), tokenizer.VocabularySize, tokenizer.EndOfTextId, new NgramOptions { Order = order });
        Assert.Equal(nats, NgramMeasurement.Of(model, new ArraySplit(ids[cut..])).Loss, 0.002);
    }

    [Fact]
    public void LossOfWarAndPeaceCharacters()
    {
        var texts = new[] { "train", "valid", "test" }.Select(f => File.ReadAllText(TestData.PathOf($"warandpeace/{f}.txt"))).ToArray();
        var tokenizer = CharacterTokenizer.Create(texts.SelectMany(t => t.EnumerateRunes()));
        var model = NgramModel.Train(new ArraySplit(tokenizer.Encode(texts[0])), tokenizer.VocabularySize, tokenizer.EndOfTextId, new NgramOptions { Order = 8 });
        Assert.Equal(1.2658, NgramMeasurement.Of(model, new ArraySplit(tokenizer.Encode(texts[2]))).Loss, 0.002);
    }

    [Theory]
    [InlineData(3, 242.4, 226.0)]
    [InlineData(5, 234.9, 220.1)]
    public void PerplexityOfWikiText2Words(int order, double validation, double test)
    {
        var ids = new Dictionary<string, int> { ["</s>"] = 0 };
        var train = Lines("train");
        var model = NgramModel.Train(train, ids.Count, 0, new NgramOptions { Order = order });
        Assert.Equal(validation, Perplexity("valid", 217_646), 0.5);
        Assert.Equal(test, Perplexity("test", 245_569), 0.5);

        double Perplexity(string file, int count)
        {
            var measured = NgramMeasurement.Of(model, Lines(file), first: 0);
            Assert.Equal(count, measured.PredictionCount);
            return measured.Perplexity;
        }

        // Each line is a document: its end is predicted.
        ArraySplit Lines(string file) => new([.. File.ReadLines(TestData.PathOf($"wikitext-2/{file}.txt"))
            .SelectMany(line => line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Append("</s>"))
            .Select(word => ids.TryGetValue(word, out var id) ? id : ids[word] = ids.Count)]);
    }
}
