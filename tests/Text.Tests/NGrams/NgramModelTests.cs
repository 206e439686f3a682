using FsCheck;
using FsCheck.Fluent;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Text.Tests.NGrams;

public sealed class NgramModelTests
{
    private const int Vocabulary = 7;
    private const int EndOfText = 0;

    public static TheoryData<NgramSmoothing> Smoothings => [.. Enum.GetValues<NgramSmoothing>()];

    [Theory]
    [MemberData(nameof(Smoothings))]
    public void EveryProbabilityIsThatOfTheDefinition(NgramSmoothing smoothing) => Check(smoothing, 60, (ids, options, model) =>
    {
        var reference = new ReferenceNgrams(ids, Vocabulary, EndOfText, options);
        foreach (var context in Contexts(ids))
        {
            for (var id = 0; id < Vocabulary; id++)
            {
                Assert.Equal(reference.Probability(Document(context), id), Math.Exp(model.LogProbability(context, id)), 1e-12);
            }
        }
    });

    [Theory]
    [MemberData(nameof(Smoothings))]
    public void ProbabilitiesAfterAnyContextAddUpToOneAndAreThoseOfTheDistribution(NgramSmoothing smoothing) => Check(smoothing, 200, (ids, _, model) =>
    {
        var distribution = new double[Vocabulary];
        foreach (var context in Contexts(ids))
        {
            var state = model.StateAfter(context);
            model.Distribution(state, distribution);
            Assert.Equal(1, distribution.Sum(), 1e-9);
            for (var id = 0; id < Vocabulary; id++)
            {
                Assert.Equal(distribution[id], Math.Exp(model.LogProbability(context, id)), 1e-12);
            }

            Assert.Equal(-distribution.Where(p => p > 0).Sum(p => p * Math.Log(p)), model.Entropy(state), 1e-9);
        }
    });

    [Theory]
    [MemberData(nameof(Smoothings))]
    public void TheMostLikelyIdIsTheOneOfHighestProbability(NgramSmoothing smoothing) => Check(smoothing, 200, (ids, _, model) =>
    {
        foreach (var context in Contexts(ids))
        {
            var probabilities = Enumerable.Range(0, Vocabulary).Select(id => Math.Exp(model.LogProbability(context, id))).ToArray();
            Assert.Equal(probabilities.Max(), probabilities[model.MostLikely(model.StateAfter(context))], 1e-12);
        }
    });

    [Fact]
    public void StatesCarriedFromIdToIdSayWhatWholeContextsSay() => Check(NgramSmoothing.KneserNey, 100, (ids, _, model) =>
    {
        var state = 0;
        for (var i = 0; i < ids.Length; i++)
        {
            state = model.Advance(state, ids[i], out var probability);
            Assert.Equal(model.LogProbability(ids.AsSpan(0, i), ids[i]), Math.Log(probability), 1e-12);
        }
    });

    [Fact]
    public void NoNgramReachesAcrossTheEndOfADocument()
    {
        // Two documents: 1 2 and 3 4.
        var model = NgramModel.Train(new ArraySplit([1, 2, 0, 3, 4, 0]), 5, 0, new NgramOptions { Order = 3, Smoothing = NgramSmoothing.MaximumLikelihood });
        Assert.Equal(Math.Log(0.5), model.LogProbability([0], 3), 1e-12);
        Assert.Equal(Math.Log(0.5), model.LogProbability([2, 0], 3), 1e-12);
        Assert.Equal(0, model.LogProbability([1, 2], 0), 1e-12);
        Assert.Equal(double.NegativeInfinity, model.LogProbability([1], 3));
        Assert.Equal(Math.Log(2.0 / 6), model.LogProbability([], 0), 1e-12);
    }

    [Fact]
    public void CountsOfASmallTextAreThoseOfTheDefinition()
    {
        // After the beginning of the text: a b a c a b. Bigrams: #a 1, ab 2, ba 1, ac 1, ca 1; ids before a: 3, b: 1, c: 1.
        var model = NgramModel.Train(new ArraySplit([0, 1, 0, 2, 0, 1]), 4, 3, new NgramOptions { Order = 2 });
        Assert.Equal(4 + 5, model.Counts.NgramCount);

        // Order 1: n1 = 2, n3 = 1, so Y = 1 and D1 = 1 - 0, which is no discount of 1: 0.5; D3 = 3 - 0, likewise 1.5.
        // Order 2: n1 = 4, n2 = 1: D1 = 1 - 2 (4/6) 1/4; D2 = 2 - 0 is no discount of 2: 1.
        const double d11 = 0.5, d13 = 1.5, d21 = 1 - (2 * (4.0 / 6) / 4), d22 = 1.0;
        const double b = ((1 - d11) / 5) + ((d13 + d11 + d11) / 5 / 4);
        const double bAfterA = ((2 - d22) / 3) + ((d22 + d21) / 3 * b);
        Assert.Equal(Math.Log(bAfterA), model.LogProbability([0], 1), 1e-12);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(6)]
    public void ATextShorterThanTheOrderStillGivesADistribution(int count)
    {
        foreach (var smoothing in Enum.GetValues<NgramSmoothing>())
        {
            var options = new NgramOptions { Order = NgramOptions.MaxOrder, Smoothing = smoothing };
            var model = NgramModel.Train(new ArraySplit([.. Enumerable.Range(0, count).Select(i => i % 3)]), 4, 3, options);
            foreach (var context in new int[][] { [], [0], [0, 1], [2, 0, 1, 2, 0, 1, 2], [3, 3] })
            {
                Assert.Equal(1, Enumerable.Range(0, 4).Sum(id => Math.Exp(model.LogProbability(context, id))), 1e-9);
                Assert.InRange(model.MostLikely(model.StateAfter(context)), 0, 3);
            }
        }
    }

    [Fact]
    public void WithoutSmoothingTheLossOfUnseenTokensIsInfiniteAndTheirNumberIsTold()
    {
        var model = NgramModel.Train(new ArraySplit([1, 2, 1, 2, 3]), 5, 0, new NgramOptions { Order = 2, Smoothing = NgramSmoothing.MaximumLikelihood });
        var measured = NgramMeasurement.Of(model, new ArraySplit([1, 2, 3, 1, 4]));
        Assert.Equal((4, 1, double.PositiveInfinity, double.PositiveInfinity), (measured.PredictionCount, measured.ImpossibleCount, measured.Loss, measured.Perplexity));
        Assert.Equal(0, NgramMeasurement.Of(model, new ArraySplit([1, 2, 1])).ImpossibleCount);
    }

    [Theory]
    [InlineData(0, "1 to 16")]
    [InlineData(17, "1 to 16")]
    public void AnOrderThatIsNotPossibleIsRefused(int order, string message) => Assert.Contains(message,
        Assert.Throws<ArgumentException>(() => NgramModel.Train(new ArraySplit([1]), 2, 0, new NgramOptions { Order = order })).Message, StringComparison.Ordinal);

    [Fact]
    public void AnIdBeyondTheVocabularyIsNamedWithItsPlace() => Assert.Contains("Token 2 of the split is 9",
        Assert.Throws<InvalidDataException>(() => NgramModel.Train(new ArraySplit([1, 2, 9]), 3, 0, new NgramOptions())).Message, StringComparison.Ordinal);

    [Fact]
    public void TrainingTellsHowFarItIsAndCanBeCancelled()
    {
        var random = new Random(3);
        var split = new ArraySplit([.. Enumerable.Range(0, 200_000).Select(_ => random.Next(50))]);
        var last = 0.0;
        NgramModel.Train(split, 50, 0, new NgramOptions { Order = 5 }, share => last = share);
        Assert.Equal(1, last);

        using var stop = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => NgramModel.Train(split, 50, 0, new NgramOptions { Order = 5 }, _ => stop.Cancel(), stop.Token));
    }

    /// <summary>Checks random small texts of random orders; half of them with documents, some too regular for any estimate.</summary>
    private static void Check(NgramSmoothing smoothing, int count, Action<int[], NgramOptions, NgramModel> check)
    {
        var texts = Gen.ArrayOf(Gen.Choose(0, Vocabulary - 1))
            .SelectMany(ids => Gen.Choose(1, 5).Select(order => (ids, order)))
            .SelectMany(t => Gen.Elements(0.01, 0.5, 1, 20.0).Select(k => (t.ids, t.order, k)))
            .SelectMany(t => Gen.Elements(1, 2, 40).Select(repeats => (ids: Enumerable.Repeat(t.ids, repeats).SelectMany(i => i).Take(120).ToArray(), t.order, t.k)))
            .Where(t => t.ids.Length > 0);
        Prop.ForAll(texts.ToArbitrary(), text =>
        {
            var options = new NgramOptions { Order = text.order, Smoothing = smoothing, K = text.k };
            check(text.ids, options, NgramModel.Train(new ArraySplit(text.ids), Vocabulary, EndOfText, options));
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(count).WithReplay(7, 11));
    }

    private static IEnumerable<int[]> Contexts(int[] ids) =>
        [[], [EndOfText], [1, EndOfText], [Vocabulary - 1, 2, 1], .. Enumerable.Range(0, Math.Min(ids.Length, 8)).Select(i => ids[..(ids.Length * i / 8)]), ids];

    /// <summary>What of a context belongs to the document that it ends in.</summary>
    private static int[] Document(int[] context) => context[Math.Max(0, Array.LastIndexOf(context, EndOfText))..];
}
