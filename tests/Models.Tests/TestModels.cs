using TorchSharp;

namespace LlmPipeline.Models.Tests;

/// <summary>Small networks and made-up text for tests.</summary>
internal static class TestModels
{
    public static ModelConfig Tiny { get; } = new() { VocabularySize = 29, Layers = 2, Heads = 2, Width = 16, Context = 12, EndOfTextId = 28 };

    public static ModelConfig TinyLlama { get; } = Tiny with { Architecture = "llama", Heads = 4, KvHeads = 2, FeedForwardWidth = 24, Tied = false, Bias = false };

    /// <summary>The tensors in double precision, for references.</summary>
    public static Dictionary<string, double[]> TensorsOf(LanguageModel model) => model.Parameters.Views.ToDictionary(
        v => v.Name, v => model.Parameters.Values.Slice(v.Offset, v.Length).ToArray().Select(x => (double)x).ToArray());

    /// <summary>A network with weights large enough that every part of it shows in the logits.</summary>
    public static LanguageModel Create(ModelConfig? config = null, long seed = 1, double scale = 5)
    {
        TorchRuntime.Initialize();
        var model = LanguageModel.Create(config ?? Tiny, seed, torch.CPU);
        var random = new Random((int)seed);
        foreach (var view in model.Parameters.Views)
        {
            foreach (ref var value in model.Parameters.Values.Slice(view.Offset, view.Length))
            {
                value = view.Shape.Count >= 2 ? (float)(value * scale) : value + (0.2f * (random.NextSingle() - 0.5f));
            }
        }

        return model;
    }

    public static int[] RandomIds(int count, int seed, int vocabulary = 29)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(vocabulary))];
    }

    public static float[] GradientsOf(LanguageModel model, int[] inputs, int[] targets, int batch, float? lossScale = null, ulong dropoutSeed = 0)
    {
        model.Parameters.ZeroGradients();
        model.AccumulateGradients(inputs, targets, batch, lossScale ?? 1f / inputs.Length, dropoutSeed);
        model.Parameters.DownloadGradients();
        return model.Parameters.Gradients.ToArray();
    }

    public static float[] ForwardLogits(LanguageModel model, int[] ids, int batch)
    {
        using var scope = torch.NewDisposeScope();
        var logits = model.Forward(torch.tensor(ids.Select(i => (long)i).ToArray()).view(batch, -1));
        return logits.cpu().contiguous().data<float>().ToArray();
    }
}
