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

    /// <summary>The name of <see cref="PretrainAsync"/>'s network.</summary>
    public const string Reviews = "reviews";

    private const string EmbeddingName = "embedding.weight";

    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly string _folder;
    private readonly IBlobStore _store;
    private readonly ITokenizer _tokenizer;

    /// <param name="folder">Where what was trained is kept.</param>
    /// <param name="sentences">Their words are the vocabulary, whether or not they are trained on.</param>
    public MrTraining(string folder, IEnumerable<Sentence> sentences)
    {
        _folder = folder;
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

    /// <summary>
    /// The network with word vectors, after it has told the class of film reviews: each of their pieces of at most a context of words
    /// has the class of its review. Trained once, then kept. Returns the share of pieces of held-out reviews that it gets right.
    /// </summary>
    public async Task<double> PretrainAsync()
    {
        var name = $"models/{Reviews}";
        if (await _store.TryReadManifestAsync(name) is { } kept)
        {
            return (double)kept.Properties["accuracy"]!;
        }

        var pieces = (await MovieReviews.ReadAsync())
            .Select((review, i) => (IsHeldOut: i % Recipe.HeldOutReviews == 0, Pieces: _tokenizer.Encode(review.Text).Chunk(Recipe.Context).Select(ids => new Document(ids, review.Label)).ToList())).ToList();
        Document[] learned = [.. pieces.Where(p => !p.IsHeldOut).SelectMany(p => p.Pieces)], heldOut = [.. pieces.Where(p => p.IsHeldOut).SelectMany(p => p.Pieces)];
        using var replica = Train(learned, heldOut, Vectors, Recipe.Pretraining, 1, Recipe.Pretraining.Epochs * 5);
        var accuracy = heldOut.Average(d => IsRight(replica.Model, d) ? 1.0 : 0);
        var directory = _store.CreateDirectory(name);
        await ModelDirectory.WriteAsync(directory, replica.Model, _tokenizer.ToJson());
        await directory.CommitAsync(new() { ["accuracy"] = accuracy });
        return accuracy;
    }

    /// <summary>Trains a classifier, and says which test sentences it gets right after its last epoch.</summary>
    /// <param name="train">What it learns from; one of ten is held out, to be looked at.</param>
    /// <param name="test">What it is judged by.</param>
    /// <param name="basis">It begins with <see cref="Vectors"/> or <see cref="Reviews"/>; null for new weights.</param>
    /// <param name="recipe">How.</param>
    /// <param name="seed">Seed.</param>
    public bool[] Classify(IReadOnlyList<Sentence> train, IReadOnlyList<Sentence> test, string? basis, Recipe recipe, long seed)
    {
        Document[] Documents(IEnumerable<Sentence> sentences) => [.. sentences.Select(s => new Document([.. _tokenizer.Encode(s.Text).Take(Recipe.Context)], s.Label))];
        using var replica = Train(Documents(train.Where(s => !s.IsHeldOut)), Documents(train.Where(s => s.IsHeldOut)), basis, recipe, seed, recipe.Epochs);
        return [.. Documents(test).Select(d => IsRight(replica.Model, d))];
    }

    public void Dispose() => _services.Dispose();

    // The caller disposes the replica, which has the network.
    private Replica Train(Document[] learned, Document[] heldOut, string? basis, Recipe recipe, long seed, int validations)
    {
        var config = Config(recipe.Dropout, MrData.Labels);
        var model = basis is null ? LanguageModel.Create(config, seed, torch.CPU) : BaseModel.Load(Path.Combine(_folder, "models", basis), config, seed, torch.CPU);
        var steps = Math.Max(1, learned.Length / recipe.BatchSize) * recipe.Epochs;
        var spec = Spec(recipe, steps, interval: Math.Max(1, steps / validations), seed);
        var replica = New(model, spec);
        IdStream Stream(Document[] documents) => new(documents.Select(d => (int[])[.. d.Ids, _tokenizer.VocabularySize + d.Label]));
        Train(replica, spec, new LabelledData(Stream(learned), Stream(heldOut), _tokenizer.VocabularySize, _tokenizer.EndOfTextId, TrainingSettings.From(spec)), basis ?? "new weights");
        return replica;
    }

    private static bool IsRight(LanguageModel model, Document document)
    {
        Span<double> scores = stackalloc double[MrData.Labels.Length];
        model.Classify(document.Ids, scores);
        return (scores[1] > scores[0] ? 1 : 0) == document.Label;
    }

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
        Pooling = labels is null ? Pooling.Last : Recipe.Pooling,
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

    private void Train(Replica replica, RunSpec spec, ITrainingData data, string what)
    {
        var watched = new Watched(what);
        using var trace = new TrainingTrace("runs/bench");
        var loop = new TrainingLoop(replica, TrainingSettings.From(spec), data, new RingPlace(null, 0, 1), true, (_, _, _) => throw new InvalidOperationException(),
            new NoControl(), watched, watched, new TrainerMetrics(_services.GetRequiredService<IMeterFactory>()), trace, NullLogger.Instance);
        loop.Run();
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

    /// <summary>A text to classify.</summary>
    /// <param name="Ids">At most a context of words.</param>
    /// <param name="Label">Its class.</param>
    private sealed record Document(int[] Ids, int Label);

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

        public string Save(ReplicaSnapshot snapshot, int keep) => ResourceName.Checkpoint("runs/bench", snapshot.State.Step);

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
