using System.Globalization;
using System.Runtime.Intrinsics;
using System.Text;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Models;
using LlmPipeline.Trainer.Collectives;
using TorchSharp;

namespace LlmPipeline.Bench.Exchange;

/// <summary>
/// What exact sums of gradients cost beside plain float addition, on one thread, and how far they are from float64 sums: gradients of
/// a Transformer of 10.7 million parameters, fresh and after some steps.
/// </summary>
internal static class ExactBench
{
    private const int MicroBatches = 8;
    private const int Context = 128;
    private const int Chunk = 64 * 1024;

    private static readonly string[] Parts = ["add", "last", "write", "read"];

    public static async Task<int> RunAsync(int rounds)
    {
        TorchRuntime.Initialize(new TorchRuntimeOptions { MklAvx512OnAmd = true });
        var gradients = Gradients();
        var length = gradients[0].Length;
        var text = new StringBuilder($"# exact: what exact sums of gradients cost, and how exact they are\n\n{await Machine.DescribeAsync("dotnet run -c Release --project bench -- exact")}\n");
        text.AppendLine(CultureInfo.InvariantCulture, $"- {length / 1e6:F1} million parameters (the baby set-up), real gradients of {MicroBatches} micro-batches after 5 steps of SGD; one thread; CPU time, medians of {rounds}, all in turn");
        var costs = Costs(gradients, rounds, out var bytesOfSums);
        text.AppendLine().AppendLine("## Cost, CPU ms for one gradient\n\n| | plain | exact |\n| --- | ---: | ---: |");
        string Of(string name) => string.Create(CultureInfo.InvariantCulture, $"{Spread.Of(costs[name]).Median:F2}");
        text.AppendLine(CultureInfo.InvariantCulture, $"| add a micro-batch's gradient to the sum and clear it | {Of("plain add")} | {Of("exact add")} |");
        text.AppendLine(CultureInfo.InvariantCulture, $"| the last one stays where it is (looked at; rounded) | {Of("plain last")} | {Of("exact last")} |");
        text.AppendLine(CultureInfo.InvariantCulture, $"| bring a share of several onto the wire (copy; pack) | {Of("plain write")} | {Of("exact write")} |");
        text.AppendLine(CultureInfo.InvariantCulture, $"| add a share from the wire to it, to fp32 results with the squares for the norm | {Of("plain read")} | {Of("exact read")} |");
        text.AppendLine(CultureInfo.InvariantCulture, $"| bring a share of one micro-batch onto the wire | {Of("plain write")} | {Of("exact write of one")} |");
        text.AppendLine(CultureInfo.InvariantCulture, $"| add a share from the wire to it, as above | {Of("plain read")} | {Of("exact read of one")} |");
        text.AppendLine().AppendLine(CultureInfo.InvariantCulture,
            $"On the wire a sum takes {bytesOfSums:F2} bytes (plain 4, unpacked 8), a result 4 in both; with two workers half of the gradient goes each way: {(bytesOfSums + 4) / 2 * length / 1e6:F1} MB a step and worker, plain {4 * length / 1e6:F1} MB.");
        var (worst, worstPlain, share, sums) = Errors(gradients);
        text.AppendLine().AppendLine(CultureInfo.InvariantCulture, $"""
            ## Error

            Against float64 sums of the {MicroBatches} gradients, over all {length:N0} elements; the bound is M 2^-45 + 2^-24 |sum| (1 + 2^-28), see docs/protocol.md.

            | | largest error over the bound | largest error | mean relative error of elements above 1e-8 |
            | --- | ---: | ---: | ---: |
            | exact | {share:F3} | {worst:E2} | {sums.Exact:E2} |
            | plain fp32 addition in order | {sums.PlainShare:F3} | {worstPlain:E2} | {sums.Plain:E2} |
            """);
        var extra = Whole("exact") - Whole("plain");
        text.AppendLine().Append(CultureInfo.InvariantCulture, $"exact: {share:F3} of the error bound, {extra:F1} ms of CPU more than plain sums a gradient of {length / 1e6:F1} million parameters (goal at most 1 of the bound)");
        await Machine.PublishAsync("exact", text.ToString());
        return share <= 1 ? 0 : 1;

        // A share of two micro-batches, on the wire and back.
        double Whole(string side) => Parts.Sum(part => Spread.Of(costs[$"{side} {part}"]).Median);
    }

    // The mean of the gradients of all tokens, as a step of as many micro-batches has them.
    private static float[][] Gradients()
    {
        var config = new ModelConfig { Architecture = "gpt2", VocabularySize = 65, Layers = 6, Heads = 6, Width = 384, Context = Context, Bias = false };
        using var model = LanguageModel.Create(config, 1, torch.CPU);
        var random = new Random(1);
        var ids = new int[20_000];
        for (var i = 1; i < ids.Length; i++)
        {
            // Text of a kind: the next id follows from the last one, mostly.
            ids[i] = random.NextDouble() < 0.7 ? ((ids[i - 1] * 7) + 3) % 65 : random.Next(65);
        }

        var result = new float[MicroBatches][];
        for (var step = 0; step <= 5; step++)
        {
            for (var m = 0; m < MicroBatches; m++)
            {
                var at = ((step * MicroBatches) + m) * Context * 2 % (ids.Length - (2 * Context) - 1);
                model.Parameters.ZeroGradients();
                model.AccumulateGradients(ids.AsSpan(at, 2 * Context), ids.AsSpan(at + 1, 2 * Context), 2, 1f / (MicroBatches * 2 * Context), 0);
                result[m] = model.Parameters.Gradients.ToArray();
                for (var i = 0; step < 5 && i < result[m].Length; i++)
                {
                    model.Parameters.Values[i] -= 0.3f * result[m][i];
                }
            }
        }

        return result;
    }

    private static Dictionary<string, List<double>> Costs(float[][] gradients, int rounds, out double bytesOfSums)
    {
        var length = gradients[0].Length;
        var costs = new Dictionary<string, List<double>>();
        var (work, results) = (new float[length], new float[length]);
        var plain = new ExchangeBuffer(length, 0, () => results, format: new ExchangeFormat(SumMode.Plain, WireFormat.Fp32));
        var exact = new ExchangeBuffer(length, 0, () => work);
        var wire = new byte[exact.MaxBytes(0, length)];
        var limit = FixedPoint.LimitFor(MicroBatches);
        bytesOfSums = 0;
        for (var round = -1; round < rounds; round++)
        {
            plain.Clear();
            exact.Clear();
            Array.Clear(results);
            foreach (var gradient in gradients)
            {
                gradient.CopyTo(work, 0);
                Measure("plain add", () => AddAndClear(work, results));
                gradient.CopyTo(work, 0);
                if (!ReferenceEquals(gradient, gradients[^1]))
                {
                    Measure("exact add", () => exact.Add(work, limit));
                }
            }

            Measure("plain last", () => plain.AddLast(0, length, limit));
            Measure("exact last", () => exact.AddLast(0, length, limit));
            Each("plain write", (offset, count) => plain.WriteSums(offset, count, wire, isPartial: false));
            Each("plain read", (offset, count) => plain.AddSums(offset, count, wire.AsSpan(0, count * sizeof(float)), isComplete: true));
            bytesOfSums = (double)WriteAndRead("") / length;
            gradients[0].CopyTo(work, 0);
            exact.Clear();
            exact.AddLast(0, length, limit);
            WriteAndRead(" of one");

            // The share of another worker is the same.
            long WriteAndRead(string of)
            {
                var (bytes, lengths) = (0, new List<int>());
                Each("exact write" + of, (offset, count) =>
                {
                    lengths.Add(exact.WriteSums(offset, count, wire.AsSpan(bytes), isPartial: false));
                    bytes += lengths[^1];
                });
                var (at, chunk) = (0, 0);
                Each("exact read" + of, (offset, count) =>
                {
                    exact.AddSums(offset, count, wire.AsSpan(at, lengths[chunk]), isComplete: true);
                    at += lengths[chunk++];
                });
                return bytes;
            }

            void Each(string name, Action<int, int> act) => Measure(name, () =>
            {
                for (var offset = 0; offset < length; offset += Chunk)
                {
                    act(offset, Math.Min(Chunk, length - offset));
                }
            });

            void Measure(string name, Action act)
            {
                var before = ThreadCpu.Seconds;
                act();
                var list = costs.TryGetValue(name, out var known) ? known : costs[name] = [];
                if (round >= 0)
                {
                    list.Add((ThreadCpu.Seconds - before) * 1e3);
                }
            }
        }

        return costs;
    }

    private static void AddAndClear(Span<float> addend, Span<float> sum)
    {
        for (var i = 0; i < sum.Length; i += Vector512<float>.Count)
        {
            var x = addend.Slice(i, Vector512<float>.Count);
            (Vector512.Create((ReadOnlySpan<float>)x) + Vector512.Create((ReadOnlySpan<float>)sum[i..])).CopyTo(sum[i..]);
            Vector512<float>.Zero.CopyTo(x);
        }
    }

    private static (double Worst, double WorstPlain, double Share, (double Exact, double Plain, double PlainShare) Means) Errors(float[][] gradients)
    {
        var length = gradients[0].Length;
        var buffer = new ExchangeBuffer(length, 0);
        foreach (var gradient in gradients)
        {
            buffer.Add([.. gradient], FixedPoint.LimitFor(MicroBatches));
        }

        buffer.Finish();
        var (worst, worstPlain, share, plainShare, sum, sumPlain, count) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0);
        for (var i = 0; i < length; i++)
        {
            var (reference, plain) = (0.0, 0f);
            foreach (var gradient in gradients)
            {
                reference += gradient[i];
                plain += gradient[i];
            }

            var (error, plainError) = (Math.Abs(buffer.Gradients[i] - reference), Math.Abs(plain - reference));
            var bound = (gradients.Length * Math.Pow(2, -45)) + (Math.Pow(2, -24) * Math.Abs(reference) * (1 + Math.Pow(2, -28)));
            (worst, worstPlain, share, plainShare) = (Math.Max(worst, error), Math.Max(worstPlain, plainError), Math.Max(share, error / bound), Math.Max(plainShare, plainError / bound));
            if (Math.Abs(reference) > 1e-8)
            {
                (sum, sumPlain, count) = (sum + (error / Math.Abs(reference)), sumPlain + (plainError / Math.Abs(reference)), count + 1);
            }
        }

        return (worst, worstPlain, share, (sum / count, sumPlain / count, plainShare));
    }
}
