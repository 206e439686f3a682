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

/// <summary>
/// Counters that a builder moves and others read while it works. They are those of the whole dataset, work of other processes included
/// once it is done; <see cref="Local"/> is what this process did.
/// </summary>
public sealed class BuildProgress
{
    // Bytes a second on two cores, measured: they only weigh the stages against each other.
    private const double XmlBytesRead = 50e6;
    private const double TextBytesRead = 100e6;
    private const double TextBytesCounted = 100e6;
    private const double TextBytesLearned = 60e6;
    private const double TextBytesEncoded = 40e6;

    // Text in a byte of XML documentation, and in a byte of a compressed file.
    private const double TextInXml = 0.23;
    private const double TextInCompressed = 3;

    private readonly Counts _total = new();
    private readonly Counts _local = new();
    private volatile Position _position = new(BuildStage.Reading, 0, 0, 0);
    private long _stepDone;
    private int _pieces;
    private long _stepSize;
    private double _readingShare = 0.4;
    private double _trainingShare = 0.3;

    /// <summary>The present stage.</summary>
    public BuildStage Stage => _position.Stage;

    /// <summary>Documents read.</summary>
    public long Documents => _total.Documents;

    /// <summary>Documents dropped because an earlier one had the same text.</summary>
    public long Duplicates { get; private set; }

    /// <summary>Bytes of source files read.</summary>
    public long SourceBytes => _total.SourceBytes;

    /// <summary>Bytes of source files in all.</summary>
    public long TotalSourceBytes { get; private set; }

    /// <summary>Tokens written.</summary>
    public long Tokens => _total.Tokens;

    /// <summary>Documents, bytes and tokens that this process worked on.</summary>
    public (long Documents, long SourceBytes, long Tokens) Local => (_local.Documents, _local.SourceBytes, _local.Tokens);

    /// <summary>Pieces that this process did.</summary>
    internal int Pieces => Volatile.Read(ref _pieces);

    /// <summary>Share of the whole work done, 0 to 1; never falls.</summary>
    public double Fraction
    {
        get
        {
            var position = _position;
            var (begin, share) = position.Stage switch
            {
                BuildStage.Reading => (0.0, _readingShare),
                BuildStage.TrainingTokenizer => (_readingShare, _trainingShare),
                _ => (_readingShare + _trainingShare, 1 - _readingShare - _trainingShare),
            };
            return begin + (share * (position.From + ((position.To - position.From) * position.Fraction)));
        }
    }

    /// <summary>Weighs the stages by what there is to read.</summary>
    internal void Plan(SourceSizes sizes)
    {
        TotalSourceBytes = sizes.Total;
        double xml = sizes.Xml, compressed = sizes.Compressed;
        var plain = (sizes.Total - xml - compressed) + (compressed * TextInCompressed);
        var text = plain + (xml * TextInXml);
        var reading = (xml / XmlBytesRead) + (plain / TextBytesRead);
        var training = Math.Min(text, WordCounting.MaxSampleBytes) * ((1 / TextBytesCounted) + (1 / TextBytesLearned));
        var all = Math.Max(reading + training + (text / TextBytesEncoded), double.Epsilon);
        (_readingShare, _trainingShare) = (reading / all, training / all);
    }

    /// <summary>Begins a step.</summary>
    /// <param name="stage">The stage that it is a part of.</param>
    /// <param name="from">Share of the stage that was done before.</param>
    /// <param name="to">Share of the stage that will be done then.</param>
    /// <param name="size">How much there is to do.</param>
    internal void Begin(BuildStage stage, double from, double to, long size)
    {
        (_stepDone, _stepSize) = (0, Math.Max(1, size));
        _position = new Position(stage, from, to, 0);
    }

    internal void SetStepFraction(double fraction)
    {
        var position = _position;
        if (fraction > position.Fraction)
        {
            _position = position with { Fraction = Math.Min(fraction, 1) };
        }
    }

    internal void AddStep(long done) => SetStepFraction((double)Interlocked.Add(ref _stepDone, done) / _stepSize);

    /// <summary>A piece is done.</summary>
    internal void AddPiece(bool mine) => Interlocked.Add(ref _pieces, mine ? 1 : 0);

    /// <summary>This process read something.</summary>
    internal void AddRead(long documents, long sourceBytes)
    {
        _local.Add(documents, sourceBytes, 0);
        AddReadElsewhere(documents, sourceBytes);
    }

    /// <summary>Another process read something.</summary>
    internal void AddReadElsewhere(long documents, long sourceBytes)
    {
        _total.Add(documents, sourceBytes, 0);
        AddStep(sourceBytes);
    }

    /// <summary>This process encoded something.</summary>
    internal void AddEncoded(long bytes, long tokens)
    {
        _local.Add(0, 0, tokens);
        AddEncodedElsewhere(bytes, tokens);
    }

    /// <summary>Another process encoded something.</summary>
    internal void AddEncodedElsewhere(long bytes, long tokens)
    {
        _total.Add(0, 0, tokens);
        AddStep(bytes);
    }

    internal void SetDuplicates(long duplicates) => Duplicates = duplicates;

    // Read and replaced as a whole, so that no reader sees the step of one and the share of another.
    private sealed record Position(BuildStage Stage, double From, double To, double Fraction);

    private sealed class Counts
    {
        private long _documents;
        private long _sourceBytes;
        private long _tokens;

        public long Documents => Volatile.Read(ref _documents);

        public long SourceBytes => Volatile.Read(ref _sourceBytes);

        public long Tokens => Volatile.Read(ref _tokens);

        public void Add(long documents, long sourceBytes, long tokens)
        {
            Interlocked.Add(ref _documents, documents);
            Interlocked.Add(ref _sourceBytes, sourceBytes);
            Interlocked.Add(ref _tokens, tokens);
        }
    }
}
