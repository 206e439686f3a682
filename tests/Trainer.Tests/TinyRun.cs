using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Text;
using LlmPipeline.Trainer.Optimizers;
using LlmPipeline.Trainer.Worker;
using TorchSharp;

namespace LlmPipeline.Trainer.Tests;

/// <summary>A run that takes milliseconds: a real network of two blocks, on ids that are made up but not random.</summary>
internal static class TinyRun
{
    public const int Vocabulary = 29;

    public static readonly TimeSpan Timeout = TimeSpan.FromSeconds(60);

    public static RunSpec Spec(Action<RunSpec>? change = null)
    {
        var spec = new RunSpec
        {
            DatasetName = "datasets/tiny",
            Seed = 7,
            Model = new ModelSpec { Architecture = "gpt2", Layers = 2, Heads = 2, Width = 16, Context = 8, Dropout = 0.1, Bias = true },
            Optimizer = new OptimizerSpec
            {
                Kind = "adamw",
                LearningRate = 1e-2,
                MinLearningRate = 1e-3,
                WarmupSteps = 3,
                Beta1 = 0.9,
                Beta2 = 0.99,
                Epsilon = 1e-8,
                WeightDecay = 0.1,
                ClipNorm = 1,
            },
            Training = new TrainingSpec
            {
                Steps = 12,
                BatchSize = 6,
                MicroBatchSize = 1,
                ValidationInterval = 5,
                ValidationSequences = 9,
                CheckpointInterval = 4,
                KeepCheckpoints = 2,
                MaxSeconds = 0,
                MinWorkers = 1,
            },
        };
        change?.Invoke(spec);
        return spec;
    }

    /// <summary>Networks besides the one of <see cref="Spec"/>, which is a gpt2.</summary>
    public static Action<RunSpec> OtherModel(string kind) => spec =>
    {
        var model = new ModelSpec { Architecture = "llama", Layers = 2, Heads = 4, KvHeads = 2, Width = 16, FeedForwardWidth = 24, Context = 8, Dropout = 0.1, Bias = false, Tied = false };
        spec.Model = kind switch
        {
            "llama" => model,
            "masked-llama" => new ModelSpec(model) { Objective = "masked" },
            "masked-gpt2" => new ModelSpec(spec.Model) { Objective = "masked" },
            "rnn" or "lstm" or "gru" => new ModelSpec
            {
                Architecture = kind,
                Layers = 2,
                Width = 16,
                EmbeddingWidth = 12,
                Context = 8,
                Dropout = 0.1,
                VariationalDropout = kind == "gru",
                RecurrentDropout = 0.1,
                Bias = true,
                Tied = kind == "lstm",
            },
            "feed-forward" => new ModelSpec { Architecture = kind, Layers = 1, Width = 16, EmbeddingWidth = 8, Window = 3, Context = 8, Dropout = 0.1, DirectConnections = true, Bias = true, Tied = false },
            _ => throw new ArgumentException($"There is no model '{kind}'.", nameof(kind)),
        };
    };

    public static TrainingDataset Dataset() => new("datasets/tiny", new Ids(4000, 1), new Ids(500, 2), Vocabulary, 0, "{}", null);

    public static Replica NewReplica(RunSpec spec, int attempt = 1, bool labelled = false, torch.Device? device = null)
    {
        TorchRuntime.Initialize();
        var config = TrainingSettings.ModelOf(spec, Vocabulary, 0, maskTokenId: Vocabulary - 1) with { Labels = labelled ? Labels : null };
        return new Replica(attempt, LanguageModel.Create(config, spec.Seed, device ?? torch.CPU), Optimizer.Create(spec), new TrainerState { Run = "runs/tiny", SpecHash = "" });
    }

    public static readonly string[] Labels = ["few", "many"];

    /// <summary>Documents of up to 11 ids, whose class says whether they have a 3.</summary>
    public static TokenSplit LabelledDocuments(int count, int seed)
    {
        var random = new Random(seed);
        return new Documents([.. Enumerable.Range(0, count).Select(i =>
        {
            int[] ids = [.. Enumerable.Range(0, i % 12).Select(_ => random.Next(1, 9))];
            return (int[])[.. ids, Vocabulary + (ids.Contains(3) ? 1 : 0)];
        })]);
    }

    /// <summary>Documents in memory.</summary>
    internal sealed class Documents(int[][] documents) : TokenSplit
    {
        public override long TokenCount => documents.Sum(d => d.Length);

        public override long ByteCount => TokenCount;

        public override long DocumentCount => documents.Length;

        public override void Read(long position, Span<int> ids) => documents.SelectMany(d => d).Skip((int)position).Take(ids.Length).ToArray().CopyTo(ids);

        public override (long Start, int Length) Document(long index) => (documents.Take((int)index).Sum(d => d.Length), documents[index].Length);
    }

    /// <summary>Ids that follow each other by a rule, with some noise.</summary>
    internal sealed class Ids(int count, int seed) : TokenSplit
    {
        private readonly int[] _ids = Make(count, seed);

        public override long TokenCount => count;

        public override long ByteCount => count;

        public override long DocumentCount => 1;

        public override void Read(long position, Span<int> ids) => _ids.AsSpan((int)position, ids.Length).CopyTo(ids);

        private static int[] Make(int count, int seed)
        {
            var random = new Random(seed);
            var ids = new int[count];
            for (var i = 1; i < count; i++)
            {
                ids[i] = random.Next(10) == 0 ? random.Next(Vocabulary) : ((ids[i - 1] * 5) + 3) % Vocabulary;
            }

            return ids;
        }
    }
}
