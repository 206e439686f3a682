using System.Diagnostics.Metrics;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Trainer;
using LlmPipeline.Trainer.Optimizers;
using LlmPipeline.Trainer.Worker;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using TorchSharp;

namespace LlmPipeline.Bench.Mr;

/// <summary>Trains with the product's training loop, in this process.</summary>
internal sealed class MrTraining : IDisposable
{
    /// <summary>The name of <see cref="TakeVectorsAsync"/>'s network.</summary>
    public const string Vectors = "vectors";

    private const string PretrainedName = "models/pretrained";
    private const string EmbeddingName = "embedding.weight";

    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly string _data;
    private readonly string _folder;
    private readonly IBlobStore _store;
    private readonly ITokenizer _tokenizer;

    /// <param name="data">Where the text is.</param>
    /// <param name="folder">Where what was trained is kept.</param>
    /// <param name="sentences">Their words are the vocabulary, whether or not they are trained on.</param>
    public MrTraining(string data, string folder, IEnumerable<Sentence> sentences)
    {
        (_data, _folder) = (data, folder);
        _store = BlobStore.Open($"folder={folder}");
        TorchRuntime.Initialize();
        _tokenizer = Tokenizer(sentences);
    }

    /// <summary>Number of words.</summary>
    public int VocabularySize => _tokenizer.VocabularySize;

    /// <summary>A network of new weights whose embedding is published word vectors, where there are any, is kept. Returns how many there are.</summary>
    public async Task<int> TakeVectorsAsync()
    {
        var name = $"models/{Vectors}";
        if (await _store.TryReadManifestAsync(name) is { } kept)
        {
            return (int)kept.Properties["vectors"]!;
        }

        // A word is one behind a space, too.
        string[] words = [.. Enumerable.Range(0, _tokenizer.VocabularySize).Select(id => System.Text.Encoding.UTF8.GetString(_tokenizer.BytesOf(id)).Trim())];
        var vectors = await WordVectors.ReadAsync(words.ToHashSet());
        using var model = LanguageModel.Create(Config(0, null), 1, torch.CPU);
        var count = 0;
        foreach (var (id, word) in words.Index())
        {
            if (vectors.TryGetValue(word, out var vector))
            {
                vector.CopyTo(model.Parameters.ValuesOf(EmbeddingName)[(id * WordVectors.Width)..]);
                count++;
            }
        }

        model.Parameters.UploadValues();
        var directory = _store.CreateDirectory(name);
        await ModelDirectory.WriteAsync(directory, model, _tokenizer.ToJson());
        await directory.CommitAsync(new() { ["vectors"] = count });
        return count;
    }

    /// <summary>The network after one epoch of language modelling; trained once, then kept. Returns its validation loss in nats per token.</summary>
    public Task<double> PretrainAsync() => ModelAsync(PretrainedName, null, Recipe.Pretraining, () => (Stream("train"), Stream("valid")));

    /// <summary>The pretrained network after another epoch on sentences without their labels; kept, too. Returns its loss on those held out.</summary>
    /// <param name="name">A name for it, for <see cref="Classify"/>.</param>
    /// <param name="sentences">What it learns from; one of ten is held out.</param>
    public Task<double> AdaptAsync(string name, IReadOnlyList<Sentence> sentences)
    {
        IdStream Texts(bool heldOut) => new(sentences.Where(s => s.IsHeldOut == heldOut).Select(s => (int[])[.. _tokenizer.Encode(s.Text), _tokenizer.EndOfTextId]));
        return ModelAsync($"models/{name}", PretrainedName, Recipe.Adapting, () => (Texts(false), Texts(true)));
    }

    private async Task<double> ModelAsync(string name, string? basis, Recipe recipe, Func<(IdStream Train, IdStream Validation)> texts)
    {
        if (await _store.TryReadManifestAsync(name) is { } kept)
        {
            return (double)kept.Properties["validation_loss"]!;
        }

        var (train, validation) = texts();
        var steps = train.TokenCount / (recipe.BatchSize * Recipe.Context) * recipe.Epochs;
        var spec = Spec(recipe, steps, interval: Math.Max(1, steps / 5), seed: 1);
        var config = Config(recipe.Dropout, null);
        var model = basis is null ? LanguageModel.Create(config, 1, torch.CPU) : BaseModel.Load(Path.Combine(_folder, basis), config, 1, torch.CPU);
        using var replica = New(model, spec);
        var settings = TrainingSettings.From(spec);
        var result = Train(replica, spec, new TrainingData(train, validation, settings), name);
        var directory = _store.CreateDirectory(name);
        await ModelDirectory.WriteAsync(directory, model, _tokenizer.ToJson());
        await directory.CommitAsync(new() { ["validation_loss"] = result.LastLoss });
        return result.LastLoss;
    }

    /// <summary>Trains a classifier, and says which test sentences it gets right after its last epoch.</summary>
    /// <param name="train">What it learns from; one of ten is held out, to be looked at.</param>
    /// <param name="test">What it is judged by.</param>
    /// <param name="pretrained">It begins with this network, by its name in <see cref="AdaptAsync"/>, or <see cref="Vectors"/>; null for new weights.</param>
    /// <param name="recipe">How.</param>
    /// <param name="seed">Seed.</param>
    public bool[] Classify(IReadOnlyList<Sentence> train, IReadOnlyList<Sentence> test, string? pretrained, Recipe recipe, long seed)
    {
        var config = Config(recipe.Dropout, MrData.Labels);
        var model = pretrained is null ? LanguageModel.Create(config, seed, torch.CPU) : BaseModel.Load(Path.Combine(_folder, "models", pretrained), config, seed, torch.CPU);
        IdStream Labelled(bool heldOut) => new(train.Where(s => s.IsHeldOut == heldOut).Select(s => (int[])[.. Encode(s.Text), _tokenizer.VocabularySize + s.Label]));
        var (learned, heldOut) = (Labelled(false), Labelled(true));
        var epoch = Math.Max(1, learned.DocumentCount / recipe.BatchSize);
        var spec = Spec(recipe, epoch * recipe.Epochs, interval: epoch, seed);
        using var replica = New(model, spec);
        Train(replica, spec, new LabelledData(learned, heldOut, _tokenizer.VocabularySize, _tokenizer.EndOfTextId, TrainingSettings.From(spec)), pretrained ?? "from scratch");
        var scores = new double[MrData.Labels.Length];
        return
        [
            .. test.Select(s =>
            {
                model.Classify(Encode(s.Text), scores);
                return (scores[1] > scores[0] ? 1 : 0) == s.Label;
            }),
        ];
    }

    public void Dispose() => _services.Dispose();

    private int[] Encode(string text) => [.. _tokenizer.Encode(text).Take(Recipe.Context)];

    private ModelConfig Config(double dropout, IReadOnlyList<string>? labels) => new()
    {
        Architecture = Recipe.Architecture,
        VocabularySize = _tokenizer.VocabularySize,
        Layers = Recipe.Layers,
        Width = Recipe.Width,
        EmbeddingWidth = WordVectors.Width,
        Context = Recipe.Context,
        Dropout = dropout,
        EndOfTextId = _tokenizer.EndOfTextId,
        Labels = labels,
    };

    private static RunSpec Spec(Recipe recipe, long steps, long interval, long seed) => new()
    {
        Seed = seed,
        Model = new ModelSpec { Architecture = Recipe.Architecture, Layers = Recipe.Layers, Width = Recipe.Width, EmbeddingWidth = WordVectors.Width, Context = Recipe.Context, Dropout = recipe.Dropout },
        Optimizer = new OptimizerSpec
        {
            Kind = "adamw",
            LearningRate = recipe.LearningRate,
            MinLearningRate = recipe.LearningRate / 10,
            WarmupSteps = steps / 20,
            Beta1 = 0.9,
            Beta2 = 0.99,
            Epsilon = 1e-8,
            WeightDecay = recipe.WeightDecay,
            ClipNorm = 1,
            Schedule = "cosine",
        },
        Training = new TrainingSpec
        {
            Steps = steps,
            BatchSize = recipe.BatchSize,
            MicroBatchSize = Recipe.MicroBatchSize,
            ValidationInterval = interval,
            ValidationSequences = 0,
            CheckpointInterval = interval,
            KeepCheckpoints = 1,
            MinWorkers = 1,
        },
    };

    private static Replica New(LanguageModel model, RunSpec spec) => new(1, model, Optimizer.Create(spec.Optimizer), new TrainerState { Run = "runs/bench", SpecHash = "" });

    private Watched Train(Replica replica, RunSpec spec, ITrainingData data, string what)
    {
        var watched = new Watched(what);
        using var trace = new TrainingTrace("runs/bench");
        var loop = new TrainingLoop(replica, TrainingSettings.From(spec), data, new RingPlace(null, 0, 1), true, (_, _, _) => throw new InvalidOperationException(),
            new NoControl(), watched, watched, new TrainerMetrics(_services.GetRequiredService<IMeterFactory>()), trace, NullLogger.Instance);
        loop.Run();
        return watched;
    }

    private ITokenizer Tokenizer(IEnumerable<Sentence> sentences)
    {
        var path = Path.Combine(_folder, "tokenizer.json");
        if (!File.Exists(path))
        {
            var options = new TokenizerOptions { Kind = "word", VocabularySize = 0 };
            var words = WordCounts.Count([System.Text.Encoding.UTF8.GetBytes(string.Join('\n', sentences.Select(s => s.Text)))], TokenizerTrainer.SplitterOf(options), 1);
            File.WriteAllText(path, TokenizerTrainer.Train(words, options).ToJson());
        }

        return TokenizerFile.Load(path);
    }

    private IdStream Stream(string part) => new([.. MrData.Pretraining(_data, part).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => (int[])[.. _tokenizer.Encode(l), _tokenizer.EndOfTextId])]);

    private sealed class NoControl : ILoopControl
    {
        public bool StopRequested => false;

        public bool LeaveRequested => false;

        public bool Exiting => false;

        public bool GiveUp(TimeSpan waited) => false;
    }

    /// <summary>Shows the losses; keeps nothing, since nothing is gone back to.</summary>
    private sealed class Watched(string what) : ICheckpointStore, IProgressSink
    {
        private long _shown;

        public double LastLoss { get; private set; }

        public string Save(ReplicaSnapshot snapshot, int keep)
        {
            LastLoss = snapshot.State.ValidationLoss ?? double.PositiveInfinity;
            return ResourceName.Checkpoint("runs/bench", snapshot.State.Step);
        }

        public long NewestIntact(string run, long step) => 0;

        public TrainerState Load(Replica replica, long step) => throw new InvalidOperationException("Nothing is kept.");

        public void Step(StepMetrics metrics, double trainSeconds)
        {
            if (metrics.HasValidationLoss || metrics.Step >= _shown + 200)
            {
                _shown = metrics.Step;
                Console.WriteLine(FormattableString.Invariant($"   {what}, step {metrics.Step}: loss {metrics.TrainLoss:F4}{(metrics.HasValidationLoss ? $", held out {metrics.ValidationLoss:F4}" : "")}, {trainSeconds:F0} s"));
            }
        }

        public void Rollback(long step)
        {
        }

        public void Event(string kind, string message)
        {
        }

        public void Share(double fraction)
        {
        }

        public void Checkpoint(string name, double? validationLoss)
        {
        }

        public void Finished(double trainSeconds)
        {
        }
    }
}
