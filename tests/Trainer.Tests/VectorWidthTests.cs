using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Security.Cryptography;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Tests;

/// <summary>Whatever vectors a machine has, an update and a norm have the same bits.</summary>
public sealed class VectorWidthTests
{
    private const string Variable = "LLMPIPELINE_OPTIMIZER_CHILD";

    private static readonly Optimizer[] Optimizers =
    [
        new Sgd { L2 = 0.01, ClipValue = 0.3 },
        new Sgd { Momentum = 0.9, Nesterov = true, WeightDecay = 0.1 },
        new RmsProp { Alpha = 0.95, Epsilon = 1e-8, Momentum = 0.5 },
        new RmsProp { Alpha = 0.95, Epsilon = 1e-8, Centered = true, L2 = 0.01 },
        new RmsProp { Alpha = 0.95, Epsilon = 1e-8, Centered = true, Momentum = 0.5 },
        new Adam { Beta1 = 0.9, Beta2 = 0.99, Epsilon = 1e-8, L2 = 0.01 },
        new Adam { Beta1 = 0.9, Beta2 = 0.95, Epsilon = 1e-8, WeightDecay = 0.1 },
    ];

    [Theory]
    [InlineData("DOTNET_EnableAVX512", 256)]
    [InlineData("DOTNET_EnableAVX2", 128)]
    [InlineData("DOTNET_EnableHWIntrinsic", 0)]
    public async Task NarrowerVectorsGiveTheSameBits(string feature, int widest)
    {
        var program = Path.Combine(AppContext.BaseDirectory, typeof(VectorWidthTests).Assembly.GetName().Name + ".dll");
        var dotnet = Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet" ? Environment.ProcessPath! : "dotnet";
        using var process = Process.Start(new ProcessStartInfo(dotnet, [program])
        {
            RedirectStandardOutput = true,
            Environment = { [Variable] = "1", [feature] = "0" },
        })!;
        var output = await process.StandardOutput.ReadToEndAsync().WaitAsync(TinyRun.Timeout);
        await process.WaitForExitAsync().WaitAsync(TinyRun.Timeout);
        Assert.Equal(0, process.ExitCode);
        Assert.SkipUnless(int.Parse(output.Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture) <= widest, $"This machine does not know {feature}.");
        Assert.Equal(Results(), output.Split(' ')[1]);
    }

    [Fact]
    public void AnElementHasTheSameBitsWhereverItLies()
    {
        foreach (var optimizer in Optimizers)
        {
            foreach (var length in new[] { 1, 7, 15, 16, 17, 33 })
            {
                var (p, g) = (new float[length], new float[length]);
                Array.Fill(p, 0.3f);
                var state = optimizer.StateNames.Select(_ => new float[length]).ToArray();
                for (var step = 1; step < 10; step++)
                {
                    Array.Fill(g, 0.0123f * step);
                    optimizer.Update(step, 0.01, 0.7f, length, p, g, state);
                }

                Assert.Single(p.Distinct());
                Assert.All(state, buffer => Assert.Single(buffer.Distinct()));
            }
        }
    }

    // Runs before the program's entry point.
    [ModuleInitializer]
    [SuppressMessage("Usage", "CA2255", Justification = "This is a program, not a library.")]
    internal static void RunWhenAsked()
    {
        if (Environment.GetEnvironmentVariable(Variable) is { Length: > 0 })
        {
            Console.Write($"{(Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : Vector128.IsHardwareAccelerated ? 128 : 0)} {Results()}");
            Console.Out.Flush();
            Environment.Exit(0);
        }
    }

    private static string Results()
    {
        const int Length = 5003;
        var random = new Random(3);
        float[] Numbers(double scale) => [.. Enumerable.Range(0, Length).Select(_ => (float)((random.NextDouble() - 0.5) * scale))];
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var optimizer in Optimizers)
        {
            var p = Numbers(1);
            var state = optimizer.StateNames.Select(_ => new float[Length]).ToArray();
            for (var step = 1; step <= 20; step++)
            {
                var g = Numbers(Math.Pow(10, -step % 7));
                var norm = GradientNorm.Compute(g);
                hash.AppendData(BitConverter.GetBytes(norm));
                optimizer.Update(step, 0.01 / step, GradientNorm.ClipFactor(norm, 1), 3001, p, g, state);
            }

            foreach (var buffer in state.Prepend(p))
            {
                Assert.All(buffer, x => Assert.True(float.IsFinite(x)));
                hash.AppendData(MemoryMarshal.AsBytes(buffer.AsSpan()));
            }
        }

        return Convert.ToHexString(hash.GetHashAndReset());
    }
}
