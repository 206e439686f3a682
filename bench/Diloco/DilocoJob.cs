using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Nodes;
using Google.Protobuf;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Bench.Diloco;

/// <summary>One training, whose members are processes of their own.</summary>
/// <param name="Name">Of the text.</param>
/// <param name="TrainFile">Text to train on.</param>
/// <param name="ValidationFile">Text to validate on; null: the last tenth of <paramref name="TrainFile"/>.</param>
/// <param name="Workers">Members of the ring.</param>
/// <param name="Local">What <c>training.local</c> is; null for the synchronous run.</param>
/// <param name="Seed">Of the run.</param>
/// <param name="Steps">Of the run.</param>
internal sealed record DilocoJob(string Name, string TrainFile, string? ValidationFile, int Workers, LocalSpec? Local, int Seed, int Steps)
{
    /// <summary>Sequences of a step.</summary>
    public const int Batch = 16;

    /// <summary>The run: a Transformer on characters.</summary>
    public RunSpec Spec() => new()
    {
        DatasetName = "datasets/diloco",
        Seed = Seed,
        Model = new ModelSpec { Architecture = "gpt2", Layers = 2, Heads = 4, Width = 64, Context = 32, Dropout = 0 },
        Optimizer = new OptimizerSpec { LearningRate = 2e-3, MinLearningRate = 0 },
        Training = new TrainingSpec
        {
            Steps = Steps,
            BatchSize = Batch,
            MicroBatchSize = Batch / 4,
            ValidationSequences = 1000,
            SampleTokens = 0,
            SpikeDeviation = 0,
            Local = Local,
        },
    };

    /// <summary>Changes with everything that the result depends on but the code.</summary>
    public string Key()
    {
        var description = $"{Spec()}|{Workers}|{Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(TrainFile)))}|{ValidationFile is not null}";
        return Convert.ToHexStringLower(SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(description)))[..16];
    }

    /// <summary>Characters as ids, in ordinal order; those to train on and those to validate on.</summary>
    public (int[] Train, int[] Validation, int Vocabulary) Ids()
    {
        var train = File.ReadAllText(TrainFile);
        var validation = ValidationFile is null ? "" : File.ReadAllText(ValidationFile);
        var ids = (train + validation).Distinct().Order().Select((character, id) => (character, id)).ToDictionary(p => p.character, p => p.id);
        int[] all = [.. (train + validation).Select(c => ids[c])];
        var cut = ValidationFile is null ? all.Length / 10 * 9 : train.Length;
        return (all[..cut], all[cut..], ids.Count);
    }

    /// <summary>For a process that runs one rank.</summary>
    public string ToJson(int rank, IReadOnlyList<string> addresses) => new JsonObject
    {
        ["name"] = Name,
        ["train"] = TrainFile,
        ["validation"] = ValidationFile,
        ["workers"] = Workers,
        ["local"] = Local is null ? null : JsonFormatter.Default.Format(Local),
        ["seed"] = Seed,
        ["steps"] = Steps,
        ["rank"] = rank,
        ["addresses"] = new JsonArray([.. addresses.Select(a => (JsonNode)a)]),
    }.ToJsonString();

    /// <summary>What <see cref="ToJson"/> wrote.</summary>
    public static (DilocoJob Job, int Rank, string[] Addresses) Parse(string json)
    {
        using var document = JsonDocument.Parse(json);
        var root = document.RootElement;
        return (
            new DilocoJob(
                root.GetProperty("name").GetString()!, root.GetProperty("train").GetString()!, root.GetProperty("validation").GetString(),
                root.GetProperty("workers").GetInt32(), root.GetProperty("local").GetString() is { } local ? LocalSpec.Parser.ParseJson(local) : null,
                root.GetProperty("seed").GetInt32(), root.GetProperty("steps").GetInt32()),
            root.GetProperty("rank").GetInt32(), [.. root.GetProperty("addresses").EnumerateArray().Select(a => a.GetString()!)]);
    }
}

/// <summary>What a training came to.</summary>
/// <param name="Loss">Validation loss at the end, in nats per character.</param>
/// <param name="BytesSent">That rank 0 sent in exchanges of gradients.</param>
/// <param name="Seconds">Wall time from the first step to the end of the last, validation not counted, of rank 0.</param>
internal sealed record DilocoResult(double Loss, long BytesSent, double Seconds)
{
    public double Perplexity => Math.Exp(Loss);
}
