using System.Diagnostics;
using System.Reflection;
using System.Runtime.Versioning;
using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>
/// Whether a libtorch that did not come with TorchSharp works with it: all functions are there, arithmetic, a matrix product, the
/// gradient of a small network in fp32 and bf16, on CUDA too. A wrong one may crash the process, so a child process tries it: the
/// program itself, started anew, with a start-up hook that runs before its <c>Main</c>.
/// </summary>
[SupportedOSPlatform("linux")]
internal static class TorchSelfTest
{
    /// <summary>Environment variable with the folder that a child process is to test.</summary>
    public const string Variable = "LLMPIPELINE_TORCH_SELF_TEST";

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
        if (child.ExitCode != 0 || !output.Result.Contains(Passed, StringComparison.Ordinal))
        {
            var said = errors.Result.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            throw Refused(folder, said is [var reason, ..] && child.ExitCode == 1 ? reason : $"its self-test crashed with exit code {child.ExitCode}{(said.Length > 0 ? $": {said[0]}" : "")}");
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
            Console.Error.WriteLine(exception.Message.ReplaceLineEndings(" "));
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

        var config = new ModelConfig { VocabularySize = 17, Layers = 2, Heads = 2, Width = 16, Context = 8 };
        using var model = LanguageModel.Create(config, 1, device);
        int[] ids = [.. Enumerable.Range(0, 33).Select(i => i * 7 % 17)];
        var (loss, gradient) = Gradient();
        Check(Math.Abs(loss - Math.Log(17)) < 0.5, $"the loss of a fresh network on {device} is {loss}, not about {Math.Log(17):F2}");
        var norm = Math.Sqrt(gradient.Sum(g => (double)g * g));
        const double Distance = 0.05;
        var slope = (Moved(Distance) - Moved(-Distance)) / (2 * Distance);
        Check(Math.Abs(slope - norm) < 0.1 * norm, $"the gradient of a network on {device} is wrong: its length is {norm}, the slope along it {slope}");

        model.Precision = Precision.Bf16;
        var (rounded, _) = Gradient();
        Check(Math.Abs(rounded - loss) < 0.1, $"autocast on {device} is wrong: the loss of a network is {rounded} in bf16 and {loss} in fp32");

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
