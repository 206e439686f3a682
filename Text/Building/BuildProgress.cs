namespace LlmPipeline.Text.Building;

/// <summary>What a dataset builder is doing.</summary>
public enum BuildStage
{
    /// <summary>Sources are read, cleaned and divided.</summary>
    Reading,

    /// <summary>The tokenizer is trained.</summary>
    TrainingTokenizer,

    /// <summary>Documents are encoded and written.</summary>
    Tokenizing,
}

/// <summary>Counters that a builder moves and others read while it works.</summary>
public sealed class BuildProgress
{
    // Shares of the whole time, measured with BPE 4096 on the documentation of the SDK.
    private const double ReadingShare = 0.35;
    private const double TrainingShare = 0.35;

    private long _documents;
    private long _duplicates;
    private long _sourceBytes;
    private long _tokens;
    private double _stageFraction;

    /// <summary>The present stage.</summary>
    public BuildStage Stage { get; private set; }

    /// <summary>Documents read, duplicates left out.</summary>
    public long Documents => Volatile.Read(ref _documents);

    /// <summary>Documents dropped because an earlier one had the same text.</summary>
    public long Duplicates => Volatile.Read(ref _duplicates);

    /// <summary>Bytes of source files read.</summary>
    public long SourceBytes => Volatile.Read(ref _sourceBytes);

    /// <summary>Bytes of source files in all.</summary>
    public long TotalSourceBytes { get; internal set; }

    /// <summary>Tokens written.</summary>
    public long Tokens => Volatile.Read(ref _tokens);

    /// <summary>Share of the whole work done, 0 to 1; never falls.</summary>
    public double Fraction => Stage switch
    {
        BuildStage.Reading => ReadingShare * StageFraction,
        BuildStage.TrainingTokenizer => ReadingShare + (TrainingShare * StageFraction),
        _ => ReadingShare + TrainingShare + ((1 - ReadingShare - TrainingShare) * StageFraction),
    };

    private double StageFraction => Math.Clamp(Volatile.Read(ref _stageFraction), 0, 1);

    internal void Begin(BuildStage stage)
    {
        Volatile.Write(ref _stageFraction, 0);
        Stage = stage;
    }

    internal void SetStageFraction(double fraction) => Volatile.Write(ref _stageFraction, fraction);

    internal void AddSourceBytes(long bytes)
    {
        var read = Interlocked.Add(ref _sourceBytes, bytes);
        SetStageFraction(TotalSourceBytes == 0 ? 0 : (double)read / TotalSourceBytes);
    }

    internal void AddDocument() => Interlocked.Increment(ref _documents);

    internal void AddDuplicate() => Interlocked.Increment(ref _duplicates);

    internal void AddTokens(long tokens) => Interlocked.Add(ref _tokens, tokens);
}
