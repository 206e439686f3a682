using LlmPipeline.Text.Sources;

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
    // Bytes a second on two cores, measured: they only weigh the stages against each other.
    private const double XmlBytesRead = 50e6;
    private const double TextBytesRead = 160e6;
    private const double TextBytesLearned = 12e6;
    private const double TextBytesEncoded = 20e6;

    // Text in a byte of XML documentation, and in a byte of a compressed file.
    private const double TextInXml = 0.23;
    private const double TextInGzip = 3;

    private long _documents;
    private long _duplicates;
    private long _sourceBytes;
    private long _tokens;
    private volatile Position _position = new(BuildStage.Reading, 0);
    private double _readingShare = 0.4;
    private double _trainingShare = 0.35;

    /// <summary>The present stage.</summary>
    public BuildStage Stage => _position.Stage;

    /// <summary>Documents read, duplicates left out.</summary>
    public long Documents => Volatile.Read(ref _documents);

    /// <summary>Documents dropped because an earlier one had the same text.</summary>
    public long Duplicates => Volatile.Read(ref _duplicates);

    /// <summary>Bytes of source files read.</summary>
    public long SourceBytes => Volatile.Read(ref _sourceBytes);

    /// <summary>Bytes of source files in all.</summary>
    public long TotalSourceBytes { get; private set; }

    /// <summary>Tokens written.</summary>
    public long Tokens => Volatile.Read(ref _tokens);

    /// <summary>Share of the whole work done, 0 to 1; never falls.</summary>
    public double Fraction
    {
        get
        {
            var (stage, fraction) = _position;
            return stage switch
            {
                BuildStage.Reading => _readingShare * fraction,
                BuildStage.TrainingTokenizer => _readingShare + (_trainingShare * fraction),
                _ => _readingShare + _trainingShare + ((1 - _readingShare - _trainingShare) * fraction),
            };
        }
    }

    /// <summary>Weighs the stages by what there is to read.</summary>
    internal void Plan(IReadOnlyList<SourceFile> files)
    {
        TotalSourceBytes = files.Sum(f => f.Length);
        double xml = files.Where(f => f.Format == SourceFormat.XmlDocumentation).Sum(f => f.Length);
        double gzip = files.Where(f => f.Compressed).Sum(f => f.Length);
        var plain = (TotalSourceBytes - xml - gzip) + (gzip * TextInGzip);
        var text = plain + (xml * TextInXml);
        var reading = (xml / XmlBytesRead) + (plain / TextBytesRead);
        var training = Math.Min(text, TokenizerTraining.MaxSampleBytes) / TextBytesLearned;
        var all = Math.Max(reading + training + (text / TextBytesEncoded), double.Epsilon);
        (_readingShare, _trainingShare) = (reading / all, training / all);
    }

    internal void Begin(BuildStage stage) => _position = new Position(stage, 0);

    internal void SetStageFraction(double fraction) => _position = _position with { Fraction = Math.Clamp(fraction, 0, 1) };

    internal void AddSourceBytes(long bytes)
    {
        var read = Interlocked.Add(ref _sourceBytes, bytes);
        SetStageFraction(TotalSourceBytes == 0 ? 0 : (double)read / TotalSourceBytes);
    }

    internal void AddDocument() => Interlocked.Increment(ref _documents);

    internal void AddDuplicate() => Interlocked.Increment(ref _duplicates);

    internal void AddTokens(long tokens) => Interlocked.Add(ref _tokens, tokens);

    // Read and replaced as a whole, so that no reader sees the stage of one and the share of another.
    private sealed record Position(BuildStage Stage, double Fraction);
}
