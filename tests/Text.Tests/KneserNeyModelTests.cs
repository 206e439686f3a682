using LlmPipeline.Fakes;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Text.Tests;

public sealed class KneserNeyModelTests
{
    [Theory]
    [InlineData(3, 2.038)]
    [InlineData(5, 1.561)]
    [InlineData(7, 1.5165)]
    public void LossOfTinyShakespeareIsThePublishedOne(int order, double expected)
    {
        var text = File.ReadAllText(TestData.PathOf("tinyshakespeare/input.txt"));
        var tokenizer = CharacterTokenizer.Create(text.EnumerateRunes());
        var ids = tokenizer.Encode(text);
        var cut = ids.Length * 9 / 10;
        var model = KneserNeyModel.Train(new ArraySplit(ids[..cut]), 65, order);
        var validation = ids[cut..];
        var loss = 0.0;
        for (var i = 1; i < validation.Length; i++)
        {
            loss -= model.LogProbability(validation.AsSpan(0, i), validation[i]);
        }

        Assert.Equal(expected, loss / (validation.Length - 1), 0.002);
    }

    [Fact]
    public void ProbabilitiesAfterAnyContextAddUpToOne()
    {
        var random = new Random(1);
        var ids = Enumerable.Range(0, 5000).Select(_ => (int)Math.Sqrt(random.Next(400))).ToArray();
        var model = KneserNeyModel.Train(new ArraySplit(ids), 22, 4);
        foreach (var context in new int[][] { [], [3], [19, 18], [19, 19, 19], [1, 0, 1], [21, 21, 21] })
        {
            Assert.Equal(1, Enumerable.Range(0, 22).Sum(id => Math.Exp(model.LogProbability(context, id))), 1e-9);
        }
    }

    [Fact]
    public void TheMostLikelyIdIsTheOneOfHighestProbability()
    {
        var random = new Random(2);
        var ids = Enumerable.Range(0, 3000).Select(_ => random.Next(1 + random.Next(30))).ToArray();
        var model = KneserNeyModel.Train(new ArraySplit(ids), 30, 3);
        for (var i = 0; i < 300; i++)
        {
            int[] context = [random.Next(30), random.Next(30)];
            var best = Enumerable.Range(0, 30).Max(id => model.LogProbability(context, id));
            Assert.Equal(best, model.LogProbability(context, model.MostLikely(context)), 1e-12);
        }
    }

    [Fact]
    public void CountsOfASmallTextAreThoseOfTheDefinition()
    {
        // a b a c a b: bigram counts ab 2, ba 1, ac 1, ca 1; continuation counts a 2 (after b, c), b 1, c 1.
        var model = KneserNeyModel.Train(new ArraySplit([0, 1, 0, 2, 0, 1]), 3, 2);
        Assert.Equal(3 + 4, model.NgramCount);

        // Orders 1 and 2: n1 = 2, n2 = 1 and n1 = 3, n2 = 1; n3 = 0. D1 = 1 - 2 Y n2 / n1, D2 = 2 - 3 Y n3 / n2 = 2 is no discount of 2: 1.
        const double d11 = 1 - (2 * 0.5 * 1 / 2), d12 = 1.0, d21 = 1 - (2 * 0.6 * 1 / 3), d22 = 1.0;
        var b = ((1 - d11) / 4) + ((d12 + d11 + d11) / 4 / 3);
        var bAfterA = ((2 - d22) / 3) + ((d22 + d21) / 3 * b);
        Assert.Equal(Math.Log(bAfterA), model.LogProbability([0], 1), 1e-12);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(6)]
    public void ATextShorterThanTheOrderStillGivesADistribution(int count)
    {
        var model = KneserNeyModel.Train(new ArraySplit([.. Enumerable.Range(0, count).Select(i => i % 3)]), 4, 7);
        foreach (var context in new int[][] { [], [0], [0, 1], [2, 0, 1, 2, 0, 1, 2], [3, 3] })
        {
            Assert.Equal(1, Enumerable.Range(0, 4).Sum(id => Math.Exp(model.LogProbability(context, id))), 1e-9);
            Assert.InRange(model.MostLikely(context), 0, 3);
        }
    }

    private sealed class ArraySplit(int[] ids) : TokenSplit
    {
        public override long TokenCount => ids.Length;

        public override long ByteCount => ids.Length;

        public override long DocumentCount => 1;

        public override void Read(long position, Span<int> destination) => ids.AsSpan((int)position, destination.Length).CopyTo(destination);
    }
}
