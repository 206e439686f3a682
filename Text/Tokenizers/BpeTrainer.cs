using System.Runtime.InteropServices;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>
/// Learns a byte-level BPE vocabulary (Sennrich et al. 2016): again and again the most frequent pair of neighbouring tokens is
/// joined. Ties go to the pair with the smaller ids, so the result does not depend on threads.
/// </summary>
public static class BpeTrainer
{
    /// <summary>Learns a vocabulary: end of text, 256 bytes, then as many merges as fit and occur at least twice.</summary>
    /// <param name="documents">The text.</param>
    /// <param name="vocabularySize">Number of ids, at least 257; fewer result when the text has no more pairs.</param>
    /// <param name="progress">Called with the share done, 0 to 1.</param>
    /// <param name="cancellationToken">Stops the training.</param>
    public static BpeTokenizer Train(IEnumerable<string> documents, int vocabularySize, Action<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(vocabularySize, 257);
        var counts = Count(documents, cancellationToken);
        var tokens = new List<byte[]>(vocabularySize) { Array.Empty<byte>() };
        tokens.AddRange(ByteAlphabet.Ordered.Select(b => new[] { b }));
        var merges = new Merger(counts, tokens).Run(vocabularySize, progress, cancellationToken);
        return new BpeTokenizer(tokens, merges, endOfTextId: 0);
    }

    private static List<KeyValuePair<string, long>> Count(IEnumerable<string> documents, CancellationToken cancellationToken)
    {
        var total = new Dictionary<string, long>(StringComparer.Ordinal);
        Parallel.ForEach(
            documents,
            new ParallelOptions { CancellationToken = cancellationToken },
            () => new Dictionary<string, long>(StringComparer.Ordinal),
            (document, _, own) =>
            {
                var lookup = own.GetAlternateLookup<ReadOnlySpan<char>>();
                for (var text = document.AsSpan(); !text.IsEmpty;)
                {
                    var length = Gpt2Splitter.FirstPiece(text);
                    CollectionsMarshal.GetValueRefOrAddDefault(lookup, text[..length], out bool _)++;
                    text = text[length..];
                }

                return own;
            },
            own =>
            {
                lock (total)
                {
                    foreach (var (piece, count) in own)
                    {
                        CollectionsMarshal.GetValueRefOrAddDefault(total, piece, out _) += count;
                    }
                }
            });
        return [.. total.OrderBy(p => p.Key, StringComparer.Ordinal)];
    }

    /// <summary>The words as token lists, the counts of their pairs, and where each pair occurs; a merge touches only its own words.</summary>
    private sealed class Merger
    {
        private readonly List<byte[]> _tokens;
        private readonly int[][] _words;
        private readonly int[] _lengths;
        private readonly long[] _wordCounts;
        private readonly Dictionary<long, long> _pairCounts = [];
        private readonly Dictionary<long, List<int>> _wordsOfPair = [];
        private readonly PriorityQueue<long, (long NegativeCount, long Pair)> _queue = new();

        public Merger(List<KeyValuePair<string, long>> counts, List<byte[]> tokens)
        {
            _tokens = tokens;
            var idOfByte = new int[256];
            for (var i = 0; i < 256; i++)
            {
                idOfByte[ByteAlphabet.Ordered[i]] = i + 1;
            }

            _words = [.. counts.Select(c => Encoding.UTF8.GetBytes(c.Key).Select(b => idOfByte[b]).ToArray())];
            _lengths = [.. _words.Select(w => w.Length)];
            _wordCounts = [.. counts.Select(c => c.Value)];
            for (var word = 0; word < _words.Length; word++)
            {
                for (var i = 0; i + 1 < _lengths[word]; i++)
                {
                    Change(Pair(_words[word][i], _words[word][i + 1]), _wordCounts[word], word);
                }
            }

            foreach (var (pair, count) in _pairCounts)
            {
                _queue.Enqueue(pair, (-count, pair));
            }
        }

        public List<(int Left, int Right)> Run(int vocabularySize, Action<double>? progress, CancellationToken cancellationToken)
        {
            var merges = new List<(int, int)>(Math.Max(0, vocabularySize - _tokens.Count));
            var ids = _tokens.Select((t, id) => (Key: Convert.ToHexString(t), Id: id)).ToDictionary(t => t.Key, t => t.Id, StringComparer.Ordinal);
            var changed = new HashSet<long>();
            while (_tokens.Count < vocabularySize && _queue.TryDequeue(out var pair, out var priority))
            {
                var count = _pairCounts.GetValueOrDefault(pair);
                if (count != -priority.NegativeCount)
                {
                    if (count > 0)
                    {
                        _queue.Enqueue(pair, (-count, pair));
                    }

                    continue;
                }

                if (count < 2)
                {
                    break;
                }

                cancellationToken.ThrowIfCancellationRequested();
                var (left, right) = ((int)(pair >> 32), (int)pair);
                byte[] bytes = [.. _tokens[left], .. _tokens[right]];
                if (!ids.TryGetValue(Convert.ToHexString(bytes), out var joined))
                {
                    joined = _tokens.Count;
                    ids.Add(Convert.ToHexString(bytes), joined);
                    _tokens.Add(bytes);
                }

                changed.Clear();
                foreach (var word in _wordsOfPair[pair])
                {
                    Join(word, left, right, joined, changed);
                }

                _pairCounts.Remove(pair);
                _wordsOfPair.Remove(pair);
                foreach (var other in changed)
                {
                    if (_pairCounts.TryGetValue(other, out var now) && now > 0)
                    {
                        _queue.Enqueue(other, (-now, other));
                    }
                }

                merges.Add((left, right));
                if (merges.Count % 64 == 0)
                {
                    progress?.Invoke((double)_tokens.Count / vocabularySize);
                }
            }

            progress?.Invoke(1);
            return merges;
        }

        private void Join(int word, int left, int right, int joined, HashSet<long> changed)
        {
            var symbols = _words[word];
            var length = _lengths[word];
            var count = _wordCounts[word];
            var kept = 0;
            for (var i = 0; i < length; i++)
            {
                if (symbols[i] != left || i + 1 >= length || symbols[i + 1] != right)
                {
                    symbols[kept++] = symbols[i];
                    continue;
                }

                if (kept > 0)
                {
                    Add(Pair(symbols[kept - 1], left), -count, word);
                    Add(Pair(symbols[kept - 1], joined), count, word);
                }

                if (i + 2 < length)
                {
                    Add(Pair(right, symbols[i + 2]), -count, word);
                    Add(Pair(joined, symbols[i + 2]), count, word);
                }

                symbols[kept++] = joined;
                i++;
            }

            _lengths[word] = kept;

            void Add(long pair, long delta, int where)
            {
                Change(pair, delta, where);
                changed.Add(pair);
            }
        }

        private void Change(long pair, long delta, int word)
        {
            CollectionsMarshal.GetValueRefOrAddDefault(_pairCounts, pair, out _) += delta;
            if (delta > 0)
            {
                ref var words = ref CollectionsMarshal.GetValueRefOrAddDefault(_wordsOfPair, pair, out _);
                words ??= [];
                if (words.Count == 0 || words[^1] != word)
                {
                    words.Add(word);
                }
            }
        }

        private static long Pair(int left, int right) => ((long)left << 32) | (uint)right;
    }
}
