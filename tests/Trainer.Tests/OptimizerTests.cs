using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Tests;

public sealed class OptimizerTests
{
    [Fact]
    public void AdamWFollowsThePyTorchFormula()
    {
        const int Length = 101;
        const int Decayed = 60;
        var optimizer = new Adam { Beta1 = 0.9, Beta2 = 0.99, Epsilon = 1e-8, WeightDecay = 0.1 };
        var random = new Random(1);
        var parameters = Enumerable.Range(0, Length).Select(_ => (float)(random.NextDouble() - 0.5)).ToArray();
        var (first, second) = (new float[Length], new float[Length]);
        var p = parameters.Select(x => (double)x).ToArray();
        var (m, v) = (new double[Length], new double[Length]);
        for (var step = 1; step <= 300; step++)
        {
            var rate = 1e-3 * (1 + Math.Sin(step));
            var factor = step % 3 == 0 ? 0.25f : 1f;
            var gradient = Enumerable.Range(0, Length).Select(_ => (float)(random.NextDouble() - 0.5)).ToArray();
            optimizer.Update(step, rate, factor, Decayed, parameters, gradient, [first, second]);
            for (var i = 0; i < Length; i++)
            {
                var g = (double)gradient[i] * factor;
                p[i] *= i < Decayed ? 1 - (rate * optimizer.WeightDecay) : 1;
                m[i] = (optimizer.Beta1 * m[i]) + ((1 - optimizer.Beta1) * g);
                v[i] = (optimizer.Beta2 * v[i]) + ((1 - optimizer.Beta2) * g * g);
                var denominator = (Math.Sqrt(v[i]) / Math.Sqrt(1 - Math.Pow(optimizer.Beta2, step))) + optimizer.Epsilon;
                p[i] -= rate / (1 - Math.Pow(optimizer.Beta1, step)) * m[i] / denominator;
            }
        }

        for (var i = 0; i < Length; i++)
        {
            Assert.Equal(p[i], parameters[i], 1e-6 * 3);
            Assert.Equal(m[i], first[i], 1e-6);
            Assert.Equal(v[i], second[i], 1e-6);
        }
    }

    [Fact]
    public void TheNormIsThatOfDoubleArithmetic()
    {
        var random = new Random(2);
        foreach (var length in new[] { 0, 1, 4095, 4096, 4097, 16_384, 16_397, 100_003 })
        {
            var gradient = Enumerable.Range(0, length).Select(_ => (float)(random.NextDouble() - 0.5)).ToArray();
            var expected = Math.Sqrt(gradient.Sum(x => (double)x * x));
            Assert.Equal(expected, GradientNorm.Compute(gradient), 1e-12 * (1 + expected));
            Assert.Equal(NormInOrder(gradient), GradientNorm.Compute(gradient));
        }
    }

    /// <summary>Chunks of 4,096 in order; within a chunk eight interleaved sums, the last up to seven elements after them.</summary>
    private static double NormInOrder(float[] gradient)
    {
        var total = 0.0;
        foreach (var chunk in gradient.Chunk(4096))
        {
            var lanes = new double[8];
            var whole = chunk.Length - (chunk.Length % 8);
            for (var i = 0; i < whole; i++)
            {
                lanes[i % 8] += (double)chunk[i] * chunk[i];
            }

            var sum = lanes[0] + lanes[4] + (lanes[1] + lanes[5]) + (lanes[2] + lanes[6]) + (lanes[3] + lanes[7]);
            for (var i = whole; i < chunk.Length; i++)
            {
                sum += (double)chunk[i] * chunk[i];
            }

            total += sum;
        }

        return Math.Sqrt(total);
    }

    [Fact]
    public void ClippingIsOffAtZeroAndNeverEnlarges()
    {
        Assert.Equal(1, GradientNorm.ClipFactor(100, 0));
        Assert.Equal(1, GradientNorm.ClipFactor(0.5, 1));
        Assert.Equal(0.1f, GradientNorm.ClipFactor(10, 1), 1e-6f);
    }

    [Fact]
    public void TheRateWarmsUpAndFallsToTheMinimum()
    {
        var schedule = new LearningRateSchedule { Shape = "cosine", Peak = 1e-3, Minimum = 1e-4, WarmupSteps = 100, TotalSteps = 1000 };
        Assert.Equal(1e-5, schedule.At(1, 0), 1e-12);
        Assert.Equal(5e-4, schedule.At(50, 0), 1e-12);
        Assert.Equal(1e-3, schedule.At(100, 0), 1e-12);
        Assert.Equal(5.5e-4, schedule.At(550, 0), 1e-12);
        Assert.Equal(1e-4, schedule.At(1000, 0), 1e-12);
        Assert.Equal(1e-4, schedule.At(5000, 0), 1e-12);
    }

    [Fact]
    public void TheRateStaysAtThePeakAndFallsInTheLastShare()
    {
        var schedule = new LearningRateSchedule { Shape = "warmup-stable-decay", Peak = 1e-3, Minimum = 1e-4, WarmupSteps = 100, TotalSteps = 1100, DecayShare = 0.2 };
        Assert.Equal(5e-4, schedule.At(50, 0), 1e-12);
        Assert.Equal(1e-3, schedule.At(100, 0), 1e-12);
        Assert.Equal(1e-3, schedule.At(900, 0), 1e-12);
        Assert.Equal(5.5e-4, schedule.At(1000, 0), 1e-12);
        Assert.Equal(1e-4, schedule.At(1100, 0), 1e-12);
    }

    [Theory]
    [InlineData("constant", 1e-3, 1e-3)]
    [InlineData("step", 1e-3 / 4, 1e-3 / 32)]
    [InlineData("cosine", 5.5e-4, 1e-4)]
    [InlineData("linear", 5.5e-4, 1e-4)]
    [InlineData("warmup-stable-decay", 5.5e-4, 1e-4)]
    public void EveryShapeFollowsTheTime(string shape, double half, double end)
    {
        var schedule = new LearningRateSchedule { Shape = shape, Peak = 1e-3, Minimum = 1e-4, WarmupSteps = 10, TotalSteps = 1010, MaxSeconds = 60, StepSize = 200, Gamma = 0.5 };
        Assert.Equal(half, schedule.At(20, 30), 1e-12);
        Assert.Equal(end, schedule.At(20, 60), 1e-12);
        Assert.Equal(schedule.At(20, 60), schedule.At(1010, 0));
    }

    [Fact]
    public void TheRateFollowsTheLargerOfTheSharesOfStepsAndTime()
    {
        var schedule = new LearningRateSchedule { Shape = "cosine", Peak = 1e-3, Minimum = 1e-4, WarmupSteps = 10, TotalSteps = 1000, MaxSeconds = 60 };
        Assert.Equal(5.5e-4, schedule.At(20, 30), 1e-12);
        Assert.Equal(1e-4, schedule.At(500, 60), 1e-12);
        Assert.Equal(schedule.At(900, 0), schedule.At(900, 10));
    }
}
