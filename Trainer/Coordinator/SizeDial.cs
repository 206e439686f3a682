using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>
/// What follows from <c>size</c>. The rules meet known set-ups: size 6 is nanoGPT's network for Tiny Shakespeare (10.6 million
/// parameters, learning rate 1e-3, 16,384 tokens a step), size 12 is GPT-2 (learning rate 6e-4).
/// </summary>
internal static class SizeDial
{
    private const int Largest = 64;

    /// <summary>Tokens of training a parameter that a batch multiplies with; about the best use of compute (Hoffmann et al. 2022).</summary>
    private const double TokensPerParameter = 20;

    private const int WidthPerHead = 64;

    /// <summary>Fills in what is open in <c>model</c>, <c>optimizer</c> and <c>training</c>; nothing without <c>size</c>.</summary>
    public static void Apply(RunSpec spec)
    {
        if (!spec.HasSize)
        {
            return;
        }

        SpecCheck.InRange(spec.Size, 1, Largest, "size");
        SpecCheck.That(spec.Model is not { HasPreset: true }, "size", $"is set, and model.preset too; give one of them");
        var model = Model(spec.Size, spec.Model is { HasArchitecture: true } ? spec.Model.Architecture : "gpt2");
        model.MergeFrom(spec.Model ?? new ModelSpec());
        spec.Model = model;

        var parameters = Parameters(model);
        var training = spec.Training ??= new TrainingSpec();
        var tokens = TokensPerParameter * parameters;
        training.BatchSize = training.HasBatchSize ? training.BatchSize : (int)Math.Clamp(PowerOfTwo(1.1 * Math.Sqrt(tokens) / model.Context), 4, 1 << 20);
        training.Steps = training.HasSteps ? training.Steps : (long)Math.Clamp(Math.Ceiling(tokens / ((double)training.BatchSize * model.Context)), 1, 99_999_999);

        var optimizer = spec.Optimizer ??= new OptimizerSpec();
        optimizer.LearningRate = optimizer.HasLearningRate ? optimizer.LearningRate : Round(1e-3 * Math.Min(2, Math.Pow(384.0 / model.Width, 0.75)));
    }

    private static ModelSpec Model(int size, string architecture)
    {
        var width = WidthPerHead * size;
        var context = (int)Math.Clamp(PowerOfTwo(WidthPerHead * size), 64, 1024);
        return IsTransformer(architecture)
            ? new ModelSpec { Architecture = architecture, Layers = size, Width = width, Heads = size, Context = context, Dropout = 0, Bias = architecture != "llama" }
            : new ModelSpec { Architecture = architecture, Layers = 2, Width = width, Context = context, Dropout = 0, Bias = true };
    }

    private static bool IsTransformer(string architecture) => ModelPresets.Transformers.Contains(architecture);

    /// <summary>About the parameters between embedding and head.</summary>
    private static double Parameters(ModelSpec model) => (IsTransformer(model.Architecture) ? 12.0 : 8.0) * model.Layers * model.Width * model.Width;

    private static double PowerOfTwo(double value) => Math.Pow(2, Math.Round(Math.Log2(Math.Max(1, value))));

    // Two digits are all that the rule is good for.
    private static double Round(double value)
    {
        var digit = Math.Pow(10, Math.Floor(Math.Log10(value)) - 1);
        return Math.Round(Math.Round(value / digit) * digit, 12);
    }
}
