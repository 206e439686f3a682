using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

/// <summary>Data that fails, or is wrong, where a test wants it to.</summary>
internal sealed class FaultyData(ITrainingData data) : ITrainingData
{
    private int[]? _targets;

    /// <summary>Called before a micro-batch is read: position in steps, micro-batch.</summary>
    public Action<long, int> Reading { get; init; } = (_, _) => { };

    /// <summary>Whether the targets at a position, in steps, are all the same id, which nothing predicts.</summary>
    public Func<long, bool> IsWrong { get; init; } = _ => false;

    /// <summary>Most sequences that fit into memory.</summary>
    public int MostRows { get; init; } = int.MaxValue;

    public ReadOnlySpan<int> Inputs => data.Inputs;

    public ReadOnlySpan<int> Targets => _targets ?? data.Targets;

    public int Rows => data.Rows;

    public long PredictionsPerStep => data.PredictionsPerStep;

    public int ValidationSequences => data.ValidationSequences;

    public int ValidationBatches => data.ValidationBatches;

    public long ValidationTokens => data.ValidationTokens;

    public long TokensOfStep(long step) => data.TokensOfStep(step);

    public void ReadMicroBatch(long step, int microBatch)
    {
        Reading(step, microBatch);
        data.ReadMicroBatch(step, microBatch);
        RequireMemory();
        _targets = IsWrong(step) ? [.. data.Inputs.ToArray().Select(id => (id + 11) % TinyRun.Vocabulary)] : null;
    }

    public void ReadValidationBatch(int batch)
    {
        _targets = null;
        data.ReadValidationBatch(batch);
    }

    public ITrainingData With(TrainingSettings changed) => new FaultyData(data.With(changed)) { Reading = Reading, IsWrong = IsWrong, MostRows = MostRows };

    private void RequireMemory()
    {
        if (data.Rows > MostRows)
        {
            throw new InvalidOperationException("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes. Error code 12 (Cannot allocate memory)");
        }
    }
}
