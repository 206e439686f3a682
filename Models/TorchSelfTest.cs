using System.Diagnostics;
using System.Reflection;
using System.Runtime.Versioning;
using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>
/// Whether a libtorch that did not come with TorchSharp works with it: arithmetic, a matrix product, and training, evaluation and
/// generation with a small network of each kind, in fp32 and in 16 bits, on CUDA too. Functions that TorchSharp knows may be missing
/// where the test does without. A wrong one may crash the process, so a child process tries it: the program itself, started anew,
/// with a start-up hook that runs before its <c>Main</c>.
/// </summary>
[SupportedOSPlatform("linux")]
internal static class TorchSelfTest
{
    /// <summary>Environment variable with the folder that a child process is to test.</summary>
    public const string Variable = "LLMPIPELINE_TORCH_SELF_TEST";

    /// <summary>This is the child process.</summary>
    public static bool IsRunning => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 };

    private const string Passed = "The self-test of libtorch has passed.";
    private static readonly TimeSpan Timeout = TimeSpan.FromMinutes(2);

    /// <summary>Tests a folder in a child process.</summary>
    /// <exception cref="DllNotFoundException">It fails; the message says what.</exception>
    public static void Require(string folder)
    {
        var program = Environment.ProcessPath ?? throw new DllNotFoundException("The path of this program is not known, so libtorch cannot be tested.");
        string[] arguments = Path.GetFileNameWithoutExtension(program) == "dotnet" ? ["exec", Assembly.GetEntryAssembly()!.Location] : [];
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["DOTNET_STARTUP_HOOKS"] = typeof(TorchSelfTest).Assembly.Location;
        start.Environment[Variable] = folder;
        using var child = Process.Start(start)!;
        var output = child.StandardOutput.ReadToEndAsync();
        var errors = child.StandardError.ReadToEndAsync();
        if (!child.WaitForExit(Timeout))
        {
            child.Kill(entireProcessTree: true);
            throw Refused(folder, $"its self-test did not end within {Timeout.TotalMinutes:F0} minutes");
        }

        child.WaitForExit();
        var said = errors.Result.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        var reason = string.Join("; ", said);
        if (child.ExitCode != 0 || !output.Result.Contains(Passed, StringComparison.Ordinal))
        {
            throw Refused(folder, child.ExitCode == 1 && said.Length > 0 ? reason : $"its self-test crashed with exit code {child.ExitCode}{(said.Length > 0 ? $": {reason}" : "")}");
        }

        if (said.Length > 0)
        {
            Console.Error.WriteLine($"The libtorch in {folder} has passed its self-test, and is used: {reason}. What calls one of these functions ends this process.");
        }
    }

    /// <summary>In the child process: tests, says the result, and ends the process.</summary>
    public static void RunAndExit(string folder)
    {
        try
        {
            TorchRuntime.Initialize(new TorchRuntimeOptions { LibraryPath = folder });
            Compute(torch.CPU);
            if (LinuxTorch.HasCuda)
            {
                Compute(TorchRuntime.ResolveDevice("auto"));
            }

            Console.WriteLine(Passed);
            Environment.Exit(0);
        }
        catch (Exception exception)
        {
            // libtorch's frames are behind the first line of its messages; the one of ours that called it says more.
            var frame = exception.StackTrace?.Split('\n').FirstOrDefault(line => line.Contains(typeof(TorchSelfTest).Namespace!, StringComparison.Ordinal));
            Console.Error.WriteLine($"{exception.Message.Split('\n')[0].Trim()}{(exception is InvalidOperationException ? "" : $" ({frame?.Trim()})")}");
            Environment.Exit(1);
        }
    }

    private static void Compute(torch.Device device)
    {
        using (torch.NewDisposeScope())
        {
            var left = Enumerable.Range(0, 48).Select(i => (float)Math.Sin(i)).ToArray();
            var right = Enumerable.Range(0, 40).Select(i => (float)Math.Cos(i)).ToArray();
            var product = torch.tensor(left, [6, 8]).to(device).mm(torch.tensor(right, [8, 5]).to(device)).cpu().data<float>().ToArray();
            for (var i = 0; i < product.Length; i++)
            {
                var expected = Enumerable.Range(0, 8).Sum(k => (double)left[(i / 5 * 8) + k] * right[(k * 5) + (i % 5)]);
                Check(Math.Abs(product[i] - expected) < 1e-2, $"a matrix product on {device} is wrong: {product[i]} instead of {expected}");
            }
        }

        Elementwise(device);
        var gpt = new ModelConfig { VocabularySize = 17, Layers = 2, Heads = 2, Width = 16, Context = 8 };
        ComputeWith(gpt, device);
        ComputeWith(gpt with { Architecture = "llama", Heads = 4, KvHeads = 2, FeedForwardWidth = 24, Tied = false, Bias = false }, device);
        ComputeWith(gpt with { Objective = Objective.Masked, MaskTokenId = 16 }, device);
        foreach (var architecture in (string[])["rnn", "lstm", "gru"])
        {
            ComputeWith(gpt with { Architecture = architecture, Heads = 0 }, device);
        }

        Classify(gpt, device);
        ComputeWith(gpt with { Architecture = "feed-forward", Heads = 0, Window = 3, Tied = false }, device);
    }

    private static void ComputeWith(ModelConfig config, torch.Device device)
    {
        var kind = $"{config.Architecture} network on {device}";
        using var model = LanguageModel.Create(config, 1, device);
        int[] ids = [.. Enumerable.Range(0, 33).Select(i => i * 7 % 17)];
        var (loss, gradient) = Gradient();
        Check(Math.Abs(loss - Math.Log(17)) < 0.5, $"the loss of a fresh {kind} is {loss}, not about {Math.Log(17):F2}");
        var norm = Math.Sqrt(gradient.Sum(g => (double)g * g));
        const double Distance = 0.05;
        var slope = (Moved(Distance) - Moved(-Distance)) / (2 * Distance);
        Check(Math.Abs(slope - norm) < 0.1 * norm, $"the gradient of a {kind} is wrong: its length is {norm}, the slope along it {slope}");

        foreach (var precision in Enum.GetValues<Precision>())
        {
            if (Precisions.IsSupported(precision, config.Architecture) && (precision != Precision.Fp16 || device.type == DeviceType.CUDA))
            {
                model.Precision = precision;
                var (rounded, _) = Gradient();
                Check(Math.Abs(rounded - loss) < 0.1, $"the loss of a {kind} is {rounded} in {Precisions.NameOf(precision)} and {loss} in fp32");
            }
        }

        using var dropping = LanguageModel.Create(config with { Dropout = 0.1 }, 1, device);
        var dropped = dropping.AccumulateGradients(ids.AsSpan(0, 32), ids.AsSpan(1), 4, 1f / 32, 1);
        Check(Math.Abs(dropped - loss) < 0.5, $"the loss of a {kind} is {dropped} with dropout and {loss} without");
        if (config.Objective == Objective.Causal)
        {
            Generate(model, ids, kind);
        }

        (float Loss, float[] Gradient) Gradient()
        {
            model.Parameters.ZeroGradients();
            var loss = model.AccumulateGradients(ids.AsSpan(0, 32), ids.AsSpan(1), 4, 1f / 32, 0);
            model.Parameters.DownloadGradients();
            return (loss, model.Parameters.Gradients.ToArray());
        }

        double Moved(double distance)
        {
            var before = model.Parameters.Values.ToArray();
            for (var i = 0; i < before.Length; i++)
            {
                model.Parameters.Values[i] = (float)(before[i] + (distance * gradient[i] / norm));
            }

            model.Parameters.UploadValues();
            var sum = model.Evaluate(ids.AsSpan(0, 32), ids.AsSpan(1), 4).LossSum;
            before.CopyTo(model.Parameters.Values);
            model.Parameters.UploadValues();
            return sum / 32;
        }
    }

    // What updates and their bookkeeping take.
    private static void Elementwise(torch.Device device)
    {
        using var scope = torch.NewDisposeScope();
        var host = new float[] { 4, -9, 16 };
        using var one = 1f.ToScalar();
        using var minusTwo = (-2f).ToScalar();
        using var eight = 8f.ToScalar();
        var x = torch.zeros(3, torch.float32, device);
        x.copy_(torch.frombuffer(host, torch.float32)).clamp_(minusTwo, eight); // 4, -2, 8
        var y = torch.empty_like(x).copy_(x).relu_().sqrt_().mul_(one).add_(one); // 3, 1, 1 + the root of 8
        x.addcmul_(y, y, one).addcdiv_(y, y, minusTwo).add_(y, one);
        var numbers = torch.stack([x.norm(), y.norm(), torch.rand([3], torch.float32, device).max()]).to(torch.float64).cpu().data<double>().ToArray();
        double[] roots = [3, 1, 1 + Math.Sqrt(8)];
        double[] expected = [4 + 9 - 2 + 3, -2 + 1 - 2 + 1, 8 + (roots[2] * roots[2]) - 2 + roots[2]];
        Check(Math.Abs(numbers[0] - Math.Sqrt(expected.Sum(e => e * e))) < 1e-2 && Math.Abs(numbers[1] - Math.Sqrt(roots.Sum(r => r * r))) < 1e-3 && numbers[2] is >= 0 and < 1,
            $"elementwise operations on {device} are wrong: {numbers[0]}, {numbers[1]}");
    }

    // Only some places have a target, and shorter sequences are filled up.
    private static void Classify(ModelConfig config, torch.Device device)
    {
        int[] inputs = [1, 2, 3, 4, 5, 6, 0, 0], targets = [-100, -100, -100, 1, -100, 0, -100, -100];
        foreach (var (objective, pooling) in new[] { (Objective.Causal, Pooling.Last), (Objective.Masked, Pooling.Concat) })
        {
            var classifier = config with { Labels = ["no", "yes"], Pooling = pooling, Objective = objective, MaskTokenId = objective == Objective.Masked ? 16 : null };
            using var model = LanguageModel.Create(
                classifier with { Tuning = new TuningOptions { Lora = new LoraOptions { Rank = 2, Alpha = 4, Targets = ["c_attn"], Dropout = 0.1 } } }, 1, device);
            var loss = model.AccumulateGradients(inputs, targets, 2, 0.5f, 1);
            Check(Math.Abs(loss - Math.Log(2)) < 0.5, $"the loss of a fresh classifier on {device} is {loss}, not about {Math.Log(2):F2}");
            var scores = new double[2];
            model.Classify(inputs.AsSpan(0, 4), scores);
            Check(Math.Abs(scores.Sum(Math.Exp) - 1) < 1e-3, $"the classes of a classifier on {device} have the probabilities {Math.Exp(scores[0])} and {Math.Exp(scores[1])}");
        }
    }

    // The logits of a generation are those of a pass over all ids.
    private static void Generate(LanguageModel model, int[] ids, string kind)
    {
        using var scope = torch.NewDisposeScope();
        var all = model.Forward(torch.tensor(ids.Take(5).Select(i => (long)i).ToArray(), [1, 5])).cpu().contiguous().data<float>().ToArray()[(4 * 17)..];
        using var generation = model.BeginGeneration(1);
        var last = new float[17];
        generation.Append(ids.AsSpan(0, 4), last);
        generation.Append(ids.AsSpan(4, 1), last);
        var difference = all.Zip(last).Max(pair => Math.Abs(pair.First - pair.Second));
        Check(difference < 1e-2, $"a generation with a {kind} is wrong: its logits differ by {difference} from those of a whole pass");
    }

    private static void Check(bool condition, FormattableString problem)
    {
        if (!condition)
        {
            throw new InvalidOperationException(FormattableString.Invariant(problem));
        }
    }

    private static DllNotFoundException Refused(string folder, string reason) => new(
        $"{TorchRuntimeOptions.Section}:{nameof(TorchRuntimeOptions.LibraryPath)} names the libtorch in {folder}, which is refused: {reason.TrimEnd('.')}. Name the torch/lib folder of a PyTorch near 2.10, or leave the setting out for the libtorch that comes along.");
}
