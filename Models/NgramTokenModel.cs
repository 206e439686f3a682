using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Models;

// B = batch, T = time, V = vocabulary

/// <summary>An n-gram model that generates as a network does: its logits are the logarithms of its probabilities.</summary>
/// <param name="ngrams">The model.</param>
/// <param name="trainedOn">Fingerprint of the dataset whose training split was counted; null when it is not known.</param>
public sealed class NgramTokenModel(NgramModel ngrams, string? trainedOn) : ITokenModel
{
    /// <summary><c>model_type</c> in <c>config.json</c>, and the architecture of a run file.</summary>
    public const string Architecture = "ngram";

    /// <summary>The model.</summary>
    public NgramModel Ngrams => ngrams;

    /// <summary>Fingerprint of the dataset whose training split was counted; null when it is not known.</summary>
    public string? TrainedOn => trainedOn;

    /// <inheritdoc/>
    public int VocabularySize => ngrams.VocabularySize;

    /// <inheritdoc/>
    public int EndOfTextId => ngrams.EndOfTextId;

    /// <inheritdoc/>
    public int BeginOfTextId => ngrams.EndOfTextId;

    /// <inheritdoc/>
    public int Context => ngrams.Order - 1;

    /// <inheritdoc/>
    public int? MaxPositions => null;

    /// <inheritdoc/>
    public long ParameterCount => ngrams.Counts.NgramCount;

    /// <inheritdoc/>
    public IncrementalState BeginGeneration(int batch)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batch);
        return new State(ngrams, batch);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // Managed memory only.
    }

    private sealed class State(NgramModel ngrams, int batch) : IncrementalState
    {
        private readonly int[] _states = new int[batch];
        private readonly double[] _probabilities = new double[ngrams.VocabularySize];
        private int _length;

        public override int Length => _length;

        public override void Append(ReadOnlySpan<int> ids_BT, Span<float> logits_BV)
        {
            var time = ids_BT.Length / batch;
            if (time == 0 || ids_BT.Length != batch * time || logits_BV.Length != batch * ngrams.VocabularySize)
            {
                throw new ArgumentException($"{ids_BT.Length} ids and {logits_BV.Length} logits do not fit {batch} sequences of a vocabulary of {ngrams.VocabularySize}.");
            }

            for (var b = 0; b < batch; b++)
            {
                foreach (var id in ids_BT.Slice(b * time, time))
                {
                    _states[b] = ngrams.Advance(_states[b], id, out _);
                }

                ngrams.Distribution(_states[b], _probabilities);
                for (var id = 0; id < _probabilities.Length; id++)
                {
                    logits_BV[(b * _probabilities.Length) + id] = (float)Math.Log(_probabilities[id]);
                }
            }

            _length += time;
        }

        public override void Dispose()
        {
        }
    }
}
