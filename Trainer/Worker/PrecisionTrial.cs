using System.Diagnostics;
using LlmPipeline.Models;

namespace LlmPipeline.Trainer.Worker;

/// <summary>Finds the precision for <c>training.precision: auto</c>.</summary>
/// <param name="Chosen">The precision to train in.</param>
/// <param name="Reason">Why, for a person.</param>
internal sealed record PrecisionTrial(Precision Chosen, string Reason)
{
    /// <summary>bf16 has to take at most this share of the time in fp32: a difference that noise does not make.</summary>
    private const double Worthwhile = 0.95;

    private const int MaxRounds = 5;
    private static readonly TimeSpan Enough = TimeSpan.FromSeconds(2);

    /// <summary>Times a micro-batch in each precision, in turn, and compares the fastest ones. Parameters and gradients stay as they are.</summary>
    public static PrecisionTrial Run(LanguageModel model, ITrainingData data, TrainingSettings settings)
    {
        if (!OperatingSystem.IsLinux() || !Precisions.IsSupported(Precision.Bf16, model.Config.Architecture))
        {
            return new(Precision.Fp32, OperatingSystem.IsLinux() ? $"{model.Config.Architecture} networks compute in fp32" : "autocast needs Linux");
        }

        var before = model.Precision;
        var (fp32, bf16) = (TimeSpan.MaxValue, TimeSpan.MaxValue);
        try
        {
            data.ReadMicroBatch(1, 0);
            var start = Stopwatch.GetTimestamp();
            for (var round = 0; round <= MaxRounds && (round < 2 || Stopwatch.GetElapsedTime(start) < Enough); round++)
            {
                // Round 0 meets cold caches.
                fp32 = Faster(fp32, Time(Precision.Fp32), round);
                bf16 = Faster(bf16, Time(Precision.Bf16), round);
            }
        }
        finally
        {
            model.Precision = before;
            model.Parameters.ZeroGradients();
        }

        return Choose(fp32, bf16);

        TimeSpan Time(Precision precision)
        {
            model.Precision = precision;
            var start = Stopwatch.GetTimestamp();
            using var loss = model.QueueGradients(data.Inputs, data.Targets, data.Rows, 1f / settings.TokensPerStep, dropoutSeed: 0);
            _ = loss.item<double>();
            return Stopwatch.GetElapsedTime(start);
        }

        static TimeSpan Faster(TimeSpan best, TimeSpan time, int round) => round == 0 || time > best ? best : time;
    }

    /// <summary>bf16 where it is faster by more than noise.</summary>
    internal static PrecisionTrial Choose(TimeSpan fp32, TimeSpan bf16) => new(
        bf16 <= fp32 * Worthwhile ? Precision.Bf16 : Precision.Fp32,
        FormattableString.Invariant($"a micro-batch takes {fp32.TotalMilliseconds:F1} ms in fp32 and {bf16.TotalMilliseconds:F1} ms in bf16"));
}
