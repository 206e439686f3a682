using LlmPipeline.Models;
using LlmPipeline.Text;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// Documents with their classes: a sequence is a document, padded on the right, and its only target is the class, at its last id.
/// Documents longer than the context keep their begin.
/// </summary>
/// <remarks>
/// Document <i>i</i> of epoch <i>e</i> is a stateless permutation of (seed, e, i). Those of a step are dealt to its micro-batches by
/// length, so that little is padded.
/// </remarks>
/// <param name="train">The documents to train on.</param>
/// <param name="validation">The documents to validate on; null when the dataset has none.</param>
/// <param name="vocabularySize">V: the id of class k, which ends a document, is V + k.</param>
/// <param name="endOfTextId">What sequences are padded with.</param>
/// <param name="settings">Sizes and seed.</param>
internal sealed class LabelledData(TokenSplit train, TokenSplit? validation, int vocabularySize, int endOfTextId, TrainingSettings settings) : ITrainingData
{
    private const int IndexBits = 40;

    private readonly long[] _step = new long[settings.BatchSize];
    private int[] _inputs = [];
    private int[] _targets = [];
    private long _stepRead;
    private long _stepTokens;
    private int _columns;

    /// <inheritdoc/>
    public ReadOnlySpan<int> Inputs => _inputs.AsSpan(0, Rows * _columns);

    /// <inheritdoc/>
    public ReadOnlySpan<int> Targets => _targets.AsSpan(0, Rows * _columns);

    /// <inheritdoc/>
    public int Rows { get; private set; }

    /// <inheritdoc/>
    public long PredictionsPerStep => settings.BatchSize;

    /// <inheritdoc/>
    public int ValidationSequences { get; } = (int)Math.Min(
        settings.ValidationSequences == 0 ? int.MaxValue / 4 : settings.ValidationSequences, validation?.DocumentCount ?? 0);

    /// <inheritdoc/>
    public int ValidationBatches => (ValidationSequences + settings.MicroBatchSize - 1) / settings.MicroBatchSize;

    /// <inheritdoc/>
    public long ValidationTokens => ValidationSequences;

    /// <inheritdoc/>
    public ITrainingData With(TrainingSettings changed) => new LabelledData(train, validation, vocabularySize, endOfTextId, changed);

    /// <inheritdoc/>
    public long TokensOfStep(long step)
    {
        SelectDocuments(step);
        return _stepTokens;
    }

    /// <inheritdoc/>
    public void ReadMicroBatch(long step, int microBatch)
    {
        SelectDocuments(step);
        Read(train, _step.AsSpan(microBatch * settings.MicroBatchSize, settings.MicroBatchSize));
    }

    private void SelectDocuments(long step)
    {
        if (_stepRead != step)
        {
            _stepTokens = 0;
            for (var i = 0; i < settings.BatchSize; i++)
            {
                var (epoch, place) = Math.DivRem(((step - 1) * settings.BatchSize) + i, train.DocumentCount);
                var document = Permutation.Of(place, train.DocumentCount, Seeds.Derive(settings.Seed, "document-order", epoch));
                var length = train.Document(document).Length;
                _step[i] = ((long)length << IndexBits) | document;
                _stepTokens += Math.Clamp(length - 1, 1, settings.Context);
            }

            // By length, then number: the same on every machine.
            Array.Sort(_step);
            for (var i = 0; i < _step.Length; i++)
            {
                _step[i] &= (1L << IndexBits) - 1;
            }

            _stepRead = step;
        }
    }

    /// <inheritdoc/>
    public void ReadValidationBatch(int batch)
    {
        var first = batch * settings.MicroBatchSize;
        var documents = new long[Math.Min(settings.MicroBatchSize, ValidationSequences - first)];
        for (var row = 0; row < documents.Length; row++)
        {
            documents[row] = (first + row) * validation!.DocumentCount / ValidationSequences;
        }

        Read(validation!, documents);
    }

    private void Read(TokenSplit split, ReadOnlySpan<long> documents)
    {
        Rows = documents.Length;
        _columns = 1;
        foreach (var document in documents)
        {
            _columns = Math.Max(_columns, Math.Min(settings.Context, split.Document(document).Length - 1));
        }

        if (_inputs.Length < Rows * _columns)
        {
            _inputs = new int[Rows * _columns];
            _targets = new int[Rows * _columns];
        }

        _inputs.AsSpan(0, Rows * _columns).Fill(endOfTextId);
        _targets.AsSpan(0, Rows * _columns).Fill(LanguageModel.IgnoredTarget);
        Span<int> label = stackalloc int[1];
        for (var row = 0; row < Rows; row++)
        {
            var (start, length) = split.Document(documents[row]);
            var kept = Math.Min(settings.Context, length - 1);
            split.Read(start, _inputs.AsSpan(row * _columns, kept));
            split.Read(start + length - 1, label);
            _targets[(row * _columns) + Math.Max(0, kept - 1)] = label[0] - vocabularySize;
        }
    }
}
