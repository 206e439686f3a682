namespace LlmPipeline.Models.Tests;

public sealed class SamplerTests
{
    // Probabilities 0.5, 0.25, 0.125, 0.125.
    private static readonly float[] Logits = [MathF.Log(0.25f), MathF.Log(0.5f), MathF.Log(0.125f), MathF.Log(0.125f)];

    [Fact]
    public void DrawsFollowTheProbabilities() => AssertFrequencies(new SamplingOptions { Seed = 1 }, [0.25, 0.5, 0.125, 0.125]);

    [Fact]
    public void TemperatureSharpensAndFlattens()
    {
        AssertFrequencies(new SamplingOptions { Temperature = 0.5 }, [4 / 22.0, 16 / 22.0, 1 / 22.0, 1 / 22.0]);
        AssertFrequencies(new SamplingOptions { Temperature = 1e9 }, [0.25, 0.25, 0.25, 0.25]);
        AssertFrequencies(new SamplingOptions { Temperature = 1e-300 }, [0, 1, 0, 0]);
    }

    [Fact]
    public void TopKKeepsTheLikeliestAndTheLowerIdOfEqualOnes()
    {
        AssertFrequencies(new SamplingOptions { TopK = 1 }, [0, 1, 0, 0]);
        AssertFrequencies(new SamplingOptions { TopK = 2 }, [1 / 3.0, 2 / 3.0, 0, 0]);
        AssertFrequencies(new SamplingOptions { TopK = 3 }, [2 / 7.0, 4 / 7.0, 1 / 7.0, 0]);
        AssertFrequencies(new SamplingOptions { TopK = 100 }, [0.25, 0.5, 0.125, 0.125]);
    }

    [Fact]
    public void TopPKeepsTheSmallestSetThatReachesIt()
    {
        AssertFrequencies(new SamplingOptions { TopP = 0.01 }, [0, 1, 0, 0]);
        AssertFrequencies(new SamplingOptions { TopP = 0.5 - 1e-6 }, [0, 1, 0, 0]);
        AssertFrequencies(new SamplingOptions { TopP = 0.6 }, [1 / 3.0, 2 / 3.0, 0, 0]);
        AssertFrequencies(new SamplingOptions { TopP = 0.8 }, [2 / 7.0, 4 / 7.0, 1 / 7.0, 0]);
        AssertFrequencies(new SamplingOptions { TopP = 0.99 }, [0.25, 0.5, 0.125, 0.125]);

        // The nucleus is taken of what the k leave: 1/3 and 2/3.
        AssertFrequencies(new SamplingOptions { TopK = 2, TopP = 0.6 }, [0, 1, 0, 0]);
    }

    [Fact]
    public void GreedyTakesTheLowestOfEqualIds() => Assert.Equal(1, Sampler.Greedy([0, 3, 3, 1]));

    [Fact]
    public void BrokenLogitsAreErrorsAndForbiddenIdsAreNot()
    {
        Assert.Contains("id 1 is NaN", Assert.Throws<ArithmeticException>(() => Sampler.Greedy([0, float.NaN])).Message, StringComparison.Ordinal);
        Assert.Throws<ArithmeticException>(() => Sampler.Sample([0, float.PositiveInfinity], new SamplingOptions(), 0));
        Assert.Throws<ArithmeticException>(() => Sampler.Greedy([float.NegativeInfinity, float.NegativeInfinity]));
        Assert.All(Enumerable.Range(0, 100), n => Assert.Equal(1, Sampler.Sample([float.NegativeInfinity, 0], new SamplingOptions(), n)));
    }

    private static void AssertFrequencies(SamplingOptions options, double[] expected)
    {
        const int Draws = 4000;
        var counts = new int[expected.Length];
        for (var n = 0; n < Draws; n++)
        {
            counts[Sampler.Sample(Logits, options, n)]++;
        }

        for (var i = 0; i < expected.Length; i++)
        {
            var sigma = Math.Sqrt(expected[i] * (1 - expected[i]) / Draws);
            Assert.InRange(counts[i] / (double)Draws, expected[i] - (4 * sigma), expected[i] + (4 * sigma));
        }
    }
}
