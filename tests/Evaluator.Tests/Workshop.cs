using LlmPipeline.Evaluations.V1;
using LlmPipeline.Fakes;
using LlmPipeline.Models;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Text.Building;
using TorchSharp;

namespace LlmPipeline.Evaluator.Tests;

/// <summary>A folder store with a small dataset, and networks for it.</summary>
internal sealed class Workshop : IDisposable
{
    public const string Dataset = "datasets/words";

    private readonly TemporaryFolder _folder = new();

    public string StorePath => Path.Combine(_folder.Path, "store");

    public IBlobStore Store => BlobStore.Open($"folder={StorePath}");

    /// <summary>Makes the dataset: made-up sentences, every tenth held out.</summary>
    public static async Task<Workshop> OpenAsync()
    {
        TorchRuntime.Initialize();
        var workshop = new Workshop();
        await workshop.MakeDatasetAsync(Dataset, "the cat sat on a mat and saw the dog run", 600);
        return workshop;
    }

    public async Task MakeDatasetAsync(string name, string words, int sentences)
    {
        var vocabulary = words.Split(' ');
        var random = new Random(1);
        var text = string.Concat(Enumerable.Range(0, sentences).Select(_ =>
            string.Join(' ', Enumerable.Range(0, random.Next(4, 9)).Select(_ => vocabulary[random.Next(vocabulary.Length)])) + ".\n"));
        var recipe = new DatasetRecipe
        {
            Sources = [_folder.Write($"{name}.txt", text)],
            Tokenizer = new TokenizerRecipe { Options = new TokenizerOptions { Kind = "character" } },
            SplitMethod = SplitMethod.Tail,
            ValidationFraction = 0.1,
        };
        await new DatasetBuilder(Store, new DatasetBuilderOptions(_folder.Path, 1)).BuildAsync(recipe, new DatasetTarget(name, Fingerprint: $"of {name}"), new BuildProgress(), _ => Task.CompletedTask);
    }

    /// <summary>Makes a dataset with labels, of the characters of <see cref="Dataset"/>.</summary>
    public async Task MakeLabelledAsync(string name)
    {
        using var known = await OpenDatasetAsync();
        var recipe = new DatasetRecipe
        {
            Mixture =
            [
                new MixturePart([_folder.Write("cats.txt", string.Concat(Enumerable.Range(0, 60).Select(i => $"the cat sat{new string('s', i)}.\n")))], "cats"),
                new MixturePart([_folder.Write("dogs.txt", string.Concat(Enumerable.Range(0, 160).Select(i => $"a dog ran{new string('n', i)}.\n")))], "dogs"),
            ],
            LabelParts = true,
            Lines = true,
            Tokenizer = new TokenizerRecipe { Name = known.TokenizerName },
            ValidationFraction = 0.3,
        };
        await new DatasetBuilder(Store, new DatasetBuilderOptions(_folder.Path, 1)).BuildAsync(recipe, new DatasetTarget(name, Fingerprint: $"of {name}"), new BuildProgress(), _ => Task.CompletedTask);
    }

    public async Task<TokenDataset> OpenDatasetAsync() => await TokenDataset.OpenAsync(Store, Dataset);

    /// <summary>A network of the dataset's vocabulary with weights large enough for opinions of its own.</summary>
    public async Task<LanguageModel> CreateNetworkAsync(int context = 24, long seed = 1, bool masked = false)
    {
        using var dataset = await OpenDatasetAsync();
        var model = LanguageModel.Create(new ModelConfig { VocabularySize = dataset.Tokenizer.VocabularySize, Layers = 2, Heads = 2, Width = 16, Context = context, Objective = masked ? Objective.Masked : Objective.Causal, MaskTokenId = masked ? 1 : null }, seed, torch.CPU);
        foreach (ref var value in model.Parameters.Values)
        {
            value *= 4;
        }

        return model;
    }

    /// <summary>Commits a model as a directory.</summary>
    public async Task WriteModelAsync(string name, ITokenModel model, string? tokenizerJson = null)
    {
        using var dataset = await OpenDatasetAsync();
        var directory = Store.CreateDirectory(name);
        await ModelDirectory.WriteAsync(directory, model, tokenizerJson ?? dataset.Tokenizer.ToJson());
        await directory.CommitAsync();
    }

    public async Task WriteModelAsync(string name, int context = 24, long seed = 1, bool masked = false)
    {
        using var model = await CreateNetworkAsync(context, seed, masked);
        await WriteModelAsync(name, model);
    }

    public static EvaluationRequestSpec Spec(string model) => new() { Model = model, Dataset = Dataset, BleuSamples = 6, BleuTokens = 8, NgramOrder = 3 };

    public void Dispose() => _folder.Dispose();
}
