using LlmPipeline.Fakes;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Worker;
using TorchSharp;

namespace LlmPipeline.Trainer.Tests;

/// <summary>
/// Training that is updated where the network computes: on the CPU by the same operations, on CUDA where there is one (an installed
/// PyTorch's with Torch__LibraryPath).
/// </summary>
public sealed class DeviceUpdateTests
{
    private static readonly string[] Devices = ["cpu", "cuda"];

    public static MatrixTheoryData<string, string, int> Runs => new(Devices, ["adamw", "sgd", "rmsprop"], [1, 3]);

    public static MatrixTheoryData<string, int> Sizes => new(Devices, [1, 3]);

    public static MatrixTheoryData<string, string> Precisions => new(["cuda"], ["bf16", "fp16"]);

    public static TheoryData<string> Kinds => ["gpt2", "llama", "masked-llama", "masked-gpt2", "rnn", "lstm", "gru", "feed-forward"];

    [Theory]
    [MemberData(nameof(Runs))]
    public async Task TheCurveIsThatOfUpdatesOnTheHost(string device, string optimizer, int size)
    {
        var spec = Spec(optimizer);
        using var host = new LoopHarness(spec, 1);
        await host.RunAsync();
        using var harness = OnDevice(spec, size, device);
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        AssertClose(host.Sink.Curve, harness.Sink.Curve, device);
        Assert.Empty(harness.Sink.Events);
        Assert.All(harness.Replicas, replica => Assert.Equal(harness.Replicas[0].Hash(), replica.Hash()));

        // Present brings to the host what the device has.
        var (expected, actual) = (host.Replicas[0].Present(host.Replicas[0].State), harness.Replicas[^1].Present(harness.Replicas[^1].State));
        foreach (var (e, a) in expected.Optimizer.Zip(actual.Optimizer))
        {
            Assert.Contains(a.Buffer, v => v != 0);
            AssertClose(e.Buffer, a.Buffer, device);
        }

        AssertClose(host.Replicas[0].Model.Parameters.Values, harness.Replicas[^1].Model.Parameters.Values, device);
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public async Task ARunGoesOnFromItsCheckpoint(string device, int size)
    {
        using var folder = new TemporaryFolder();
        var store = new CheckpointStore(new FolderBlobStore(folder.Path), "{}");
        using var whole = OnDevice(Spec(), size, device);
        whole.Checkpoints = store;
        await whole.RunAsync();
        using var second = OnDevice(Spec(), size, device);
        foreach (var replica in second.Replicas)
        {
            replica.State = store.Load(replica, 8);
        }

        Assert.All(await second.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        var rest = second.Sink.Curve.Where(s => s.Step > 8).ToArray();
        Assert.Equal(4, rest.Length);
        AssertClose(whole.Sink.Curve[8..], rest, device, exactOnCpu: true);
        if (device == "cpu")
        {
            Assert.Equal(whole.Replicas[0].Hash(), second.Replicas[0].Hash());
        }
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("cuda")]
    public async Task ANewcomerAndAFlippedBitAreBroughtToTheOthersState(string device)
    {
        var spec = Spec(change: s => s.Training.Steps = 60);
        using var whole = OnDevice(spec, 2, device);
        await whole.RunAsync();
        using var harness = OnDevice(spec, 2, device);
        harness.Replicas[1].State = harness.Replicas[1].State with { Step = -1 };
        var arrived = new TaskCompletionSource();
        harness.Transfer = _ => arrived.Task;
        var flipped = false;
        harness.AfterStepOf = (rank, step) =>
        {
            if (rank == 0 && step == 10)
            {
                arrived.TrySetResult();
            }

            if (rank == 1 && step == 32 && !flipped)
            {
                flipped = true;
                using var noGrad = torch.no_grad();
                using var weight = harness.Replicas[1].Model.Parameters.DeviceValues.narrow(0, 7, 1);
                using var other = weight.neg();
                weight.copy_(other);
            }
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Contains("Before step 33", Assert.Single(harness.Sink.Events).Message, StringComparison.Ordinal);
        AssertClose(whole.Sink.Curve, harness.Sink.Curve, device);
        Assert.Equal(harness.Replicas[0].Hash(), harness.Replicas[1].Hash());
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public async Task ALossThatIsNotFiniteIsSkippedOrTrainingGoesBack(string device, int size)
    {
        using var folder = new TemporaryFolder();
        foreach (var policy in (string[])["skip", "rollback"])
        {
            using var harness = OnDevice(Spec(change: s => (s.Training.OnAnomaly, s.Training.MaxAnomalies, s.Training.AnomalyWindow) = (policy, 3, 100)), size, device);
            harness.Checkpoints = new CheckpointStore(new FolderBlobStore(Path.Combine(folder.Path, policy)), "{}");
            var isBad = false;
            harness.Wrap = (rank, data) => rank != size - 1 ? data : new FaultyData(data)
            {
                Reading = (step, _) =>
                {
                    // The weights of the last worker, from the begin of its share of step 7 to that of the next step.
                    if (step == 7 != isBad)
                    {
                        using var noGrad = torch.no_grad();
                        using var weight = harness.Replicas[rank].Model.Parameters.DeviceValues.narrow(0, 3, 1);
                        using var other = torch.tensor([step == 7 ? float.NaN : 0.01f]);
                        weight.copy_(other);
                        isBad = step == 7;
                    }
                },
            };
            Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            var told = harness.Sink.Events.First();
            Assert.Equal(policy == "skip" ? RunEventKinds.StepSkipped : RunEventKinds.RolledBack, told.Kind);
            Assert.Contains($"micro-batch {6 - (6 / size)}, of rank {size - 1}: the loss is not finite", told.Message, StringComparison.Ordinal);
            Assert.Equal(12, harness.Replicas[0].State.Step);
            Assert.All(harness.Sink.Steps.Values.Where(s => s.Anomaly.Length == 0), s => Assert.True(double.IsFinite(s.TrainLoss)));
        }
    }

    [Fact]
    public async Task StepsTellTheMemoryOfTheirGpu()
    {
        var device = Resolve("cuda");
        const long Bytes = 1L << 30;
        var before = DeviceMemory.InUse(device);
        using var block = torch.zeros(Bytes / sizeof(float), torch.float32, device);
        Assert.InRange(DeviceMemory.InUse(device) - before ?? 0, Bytes * 9 / 10, long.MaxValue);
        using var harness = OnDevice(Spec(), 1, "cuda");
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.All(harness.Sink.Steps.Values, s => Assert.True(s.DeviceMemoryBytes > Bytes));
    }

    [Theory]
    [MemberData(nameof(Precisions))]
    public async Task SixteenBitsGiveTheCurveOfFp32NearlyOnCuda(string device, string precision)
    {
        using var fp32 = OnDevice(Spec(), 1, device);
        await fp32.RunAsync();
        using var harness = OnDevice(Spec(change: s => s.Training.Precision = precision), 2, device);
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(12, harness.Sink.Curve.Length);
        Assert.All(fp32.Sink.Curve.Zip(harness.Sink.Curve), pair => Assert.Equal(pair.First.Loss, pair.Second.Loss, 0.02));
        Assert.NotEqual(fp32.Sink.Curve, harness.Sink.Curve);
        Assert.Equal(precision == "fp16", harness.Replicas[0].State.LossScaler is not null);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void LossAndGradientOnCudaAreThoseOfTheCpu(string kind)
    {
        var device = Resolve("cuda");
        var spec = Spec(change: s =>
        {
            TakeModel(s, kind);
            (s.Model.Dropout, s.Model.RecurrentDropout) = (0, 0);
        });
        using var host = TinyRun.NewReplica(spec);
        using var other = TinyRun.NewReplica(spec, device: device);
        var settings = TrainingSettings.From(spec);
        var data = new TrainingData(TinyRun.Dataset().Train, null, settings with { MicroBatchSize = 6 }, Masking.Of(host.Model.Config));
        data.ReadMicroBatch(1, 0);
        var (expected, actual) = (Compute(host.Model), Compute(other.Model));
        Assert.Equal(expected.Loss, actual.Loss, 1e-5);
        AssertClose(expected.Gradient, actual.Gradient, "cuda");
        data.ReadMicroBatch(2, 0);
        Assert.Equal(host.Model.Evaluate(data.Inputs, data.Targets, data.Rows).LossSum, other.Model.Evaluate(data.Inputs, data.Targets, data.Rows).LossSum, 1e-3);

        (float Loss, float[] Gradient) Compute(LanguageModel model)
        {
            var loss = model.AccumulateGradients(data.Inputs, data.Targets, data.Rows, 1f / data.PredictionsPerStep, 0);
            model.Parameters.DownloadGradients();
            return (loss, model.Parameters.Gradients.ToArray());
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void DropoutOnCudaFollowsItsSeed(string kind)
    {
        var device = Resolve("cuda");
        var spec = Spec(change: s =>
        {
            TakeModel(s, kind);
            s.Model.Dropout = 0.3;
        });
        using var replica = TinyRun.NewReplica(spec, device: device);
        var data = new TrainingData(TinyRun.Dataset().Train, null, TrainingSettings.From(spec) with { MicroBatchSize = 6 }, Masking.Of(replica.Model.Config));
        data.ReadMicroBatch(1, 0);
        var losses = new ulong[] { 1, 2, 1, 2 }.Select(seed => replica.Model.AccumulateGradients(data.Inputs, data.Targets, data.Rows, 1, seed)).ToArray();
        Assert.Equal(losses[0], losses[2], 1e-6);
        Assert.Equal(losses[1], losses[3], 1e-6);
        Assert.NotEqual(losses[0], losses[1]);
    }

    [Fact]
    public async Task AMicroBatchThatDoesNotFitIntoTheMemoryOfADeviceIsHalved()
    {
        Resolve("cuda");
        Assert.SkipUnless(Environment.GetEnvironmentVariable("LLMPIPELINE_RELIABILITY") == "1", "It fills the memory of the GPU, which fails whatever else computes there. Set LLMPIPELINE_RELIABILITY=1.");
        var spec = Spec(change: s =>
        {
            (s.Model.Layers, s.Model.Width, s.Model.Heads, s.Model.Context) = (24, 512, 8, 256);
            (s.Training.Steps, s.Training.BatchSize, s.Training.MicroBatchSize, s.Training.ValidationSequences, s.Training.Precision) = (2, 2048, 2048, 4, "bf16");
        });
        using var harness = OnDevice(spec, 1, "cuda");
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.All(harness.Sink.Events, e => Assert.Equal(RunEventKinds.MicroBatchReduced, e.Kind));
        Assert.NotEmpty(harness.Sink.Events);
        Assert.Equal(2, harness.Sink.Curve.Length);
    }

    private static RunSpec Spec(string optimizer = "adamw", Action<RunSpec>? change = null) => TinyRun.Spec(s =>
    {
        s.Model.Dropout = 0;
        s.Optimizer.Kind = optimizer;
        if (optimizer == "rmsprop")
        {
            (s.Optimizer.Alpha, s.Optimizer.Centered, s.Optimizer.Momentum, s.Optimizer.Epsilon) = (0.9, true, 0.5, 1e-2);
            (s.Optimizer.L2, s.Optimizer.WeightDecay) = (0.01, 0);
        }
        else if (optimizer == "sgd")
        {
            (s.Optimizer.Momentum, s.Optimizer.Nesterov, s.Optimizer.ClipValue) = (0.9, true, 0.05);
        }

        s.Training.Exchange = new ExchangeSpec { Mode = "plain" };
        change?.Invoke(s);
    });

    private static void TakeModel(RunSpec spec, string kind)
    {
        if (kind != "gpt2")
        {
            TinyRun.OtherModel(kind)(spec);
        }
    }

    private static LoopHarness OnDevice(RunSpec spec, int size, string name)
    {
        var device = Resolve(name);
        return new LoopHarness(spec, size, replicas: [.. Enumerable.Range(0, size).Select(_ => TinyRun.NewReplica(spec, device: device))]) { OnHost = false };
    }

    private static torch.Device Resolve(string name)
    {
        TorchRuntime.Initialize();
        Assert.SkipUnless(name == "cpu" || TorchRuntime.ResolveDevice("auto").type == DeviceType.CUDA, "There is no CUDA here.");
        return TorchRuntime.ResolveDevice(name);
    }

    private static void AssertClose(
        (long Step, double Loss, double Norm, double Rate, double Validation)[] expected, (long Step, double Loss, double Norm, double Rate, double Validation)[] actual,
        string device, bool exactOnCpu = false)
    {
        if (exactOnCpu && device == "cpu")
        {
            Assert.Equal(expected, actual);
            return;
        }

        Assert.Equal(expected.Select(s => (s.Step, s.Rate)), actual.Select(s => (s.Step, s.Rate)));
        foreach (var (e, a) in expected.Zip(actual))
        {
            var tolerance = device == "cpu" ? 1e-4 : 1e-3;
            Assert.Equal(e.Loss, a.Loss, tolerance);
            Assert.Equal(e.Norm, a.Norm, tolerance * Math.Max(1, e.Norm));
            Assert.Equal(e.Validation, a.Validation, tolerance);
        }
    }

    // Of the whole: a first step of Adam is a sign, which rounding can turn where a gradient is next to nothing.
    private static void AssertClose(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, string device)
    {
        Assert.Equal(expected.Length, actual.Length);
        var (difference, length) = (0.0, 0.0);
        for (var i = 0; i < expected.Length; i++)
        {
            difference += Math.Pow(expected[i] - actual[i], 2);
            length += Math.Pow(expected[i], 2);
        }

        Assert.InRange(Math.Sqrt(difference / length), 0, device == "cpu" ? 1e-4 : 1e-2);
    }
}
