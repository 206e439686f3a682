using System.Text.Json.Nodes;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Optimizers;
using LlmPipeline.Trainer.Tests.Coordinator;
using TorchSharp;

namespace LlmPipeline.Trainer.Tests;

/// <summary>PyTorch's steps, recorded by <c>Recorded/record.py</c>.</summary>
public sealed class OptimizerRecordTests
{
    private static readonly JsonArray Optimizers = Read("optimizers.json");
    private static readonly JsonArray Schedules = Read("schedules.json");

    public static TheoryData<string> OptimizerNames => [.. Optimizers.Skip(1).Select(c => (string)c!["name"]!)];

    public static MatrixTheoryData<string, bool> OptimizersOnDevices => new([.. Optimizers.Skip(1).Select(c => (string)c!["name"]!)], [true, false]);

    public static TheoryData<string> ScheduleNames => [.. Schedules.Select(c => (string)c!["name"]!)];

    [Theory]
    [MemberData(nameof(OptimizersOnDevices))]
    public void EveryStepOnADeviceIsPyTorchs(string name, bool isFused)
    {
        Models.TorchRuntime.Initialize();
        using var scope = torch.NewDisposeScope();
        var common = Optimizers[0]!;
        var recorded = Optimizers.Skip(1).Single(c => (string)c!["name"]! == name)!;
        var spec = OptimizerSpec.Parser.ParseJson(recorded["spec"]!.ToJsonString());
        var optimizer = Optimizer.Create(spec);
        if (optimizer is Adam adam)
        {
            adam.IsFused = isFused;
        }

        var parameters = torch.tensor(Numbers(common["start"]!));
        var state = optimizer.StateNames.ToDictionary(n => n, _ => torch.zeros_like(parameters));
        for (var i = 0; i < recorded["parameters"]!.AsArray().Count; i++)
        {
            var gradient = Numbers(common["gradients"]![i]!);
            var factor = GradientNorm.ClipFactor(GradientNorm.Compute(gradient), spec.ClipNorm);
            optimizer.Update(
                i + 1, (double)common["rates"]![i]!, factor, (int)common["decayed"]!, parameters, torch.tensor(gradient), [.. optimizer.StateNames.Select(n => state[n])]);
            AssertClose(Numbers(recorded["parameters"]![i]!), parameters.data<float>().ToArray());
        }

        foreach (var (buffer, values) in recorded["state"]!.AsObject())
        {
            AssertClose(Numbers(values!), state[buffer].data<float>().ToArray());
        }
    }

    [Theory]
    [MemberData(nameof(OptimizerNames))]
    public void EveryStepIsPyTorchs(string name)
    {
        var common = Optimizers[0]!;
        var recorded = Optimizers.Skip(1).Single(c => (string)c!["name"]! == name)!;
        var spec = OptimizerSpec.Parser.ParseJson(recorded["spec"]!.ToJsonString());
        var optimizer = Optimizer.Create(spec);
        var parameters = Numbers(common["start"]!);
        var state = optimizer.StateNames.ToDictionary(n => n, _ => new float[parameters.Length]);
        for (var i = 0; i < recorded["parameters"]!.AsArray().Count; i++)
        {
            var gradient = Numbers(common["gradients"]![i]!);
            var factor = GradientNorm.ClipFactor(GradientNorm.Compute(gradient), spec.ClipNorm);
            optimizer.Update(i + 1, (double)common["rates"]![i]!, factor, (int)common["decayed"]!, parameters, gradient, [.. optimizer.StateNames.Select(n => state[n])]);
            AssertClose(Numbers(recorded["parameters"]![i]!), parameters);
        }

        Assert.Equal(recorded["state"]!.AsObject().Select(s => s.Key).Order(), state.Keys.Order());
        foreach (var (buffer, values) in recorded["state"]!.AsObject())
        {
            AssertClose(Numbers(values!), state[buffer]);
        }
    }

    [Theory]
    [MemberData(nameof(ScheduleNames))]
    public void EveryRateIsPyTorchs(string name)
    {
        var recorded = Schedules.Single(c => (string)c!["name"]! == name)!;
        var schedule = LearningRateSchedule.Of(new RunSpec
        {
            Optimizer = OptimizerSpec.Parser.ParseJson(recorded["spec"]!.ToJsonString()),
            Training = new TrainingSpec { Steps = (long)recorded["steps"]! },
        });
        var rates = recorded["rates"]!.AsArray().Select(r => (double)r!).ToArray();
        Assert.Equal(rates.Length, schedule.TotalSteps);
        for (var i = 0; i < rates.Length; i++)
        {
            Assert.Equal(rates[i], schedule.At(i + 1, 0), rates[i] * 1e-8); // PyTorch's recursion, and nine digits
        }
    }

    private static void AssertClose(float[] expected, float[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i], actual[i], 1e-6 * Math.Max(1, Math.Abs(expected[i])));
        }
    }

    private static float[] Numbers(JsonNode node) => [.. node.AsArray().Select(n => (float)n!)];

    private static JsonArray Read(string file) =>
        JsonNode.Parse(File.ReadAllText(Path.Combine(RunStatesTests.RepositoryRoot(), "tests/Trainer.Tests/Recorded", file)))!.AsArray();
}
