using System.Text;

namespace LlmPipeline.Text;

/// <summary>
/// The likeliest segmentation under a unigram model (Kudo 2018), by Viterbi over code points; equally likely ones are decided
/// for the token that begins first, as SentencePiece does.
/// </summary>
internal sealed class UnigramModel : TokenModel
{
    private const double UnknownPenalty = 10;

    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _ids;
    private readonly double[] _scores;
    private readonly int _unknown;
    private readonly double _unknownScore;
    private readonly int[]? _byteIds;
    private readonly int _longest;

    /// <param name="vocabulary">Token to id; tokens that text can be made of.</param>
    /// <param name="scores">Log probability by id.</param>
    /// <param name="unknown">Id of characters without a token.</param>
    /// <param name="byteIds">Ids of the 256 bytes, used for unknown characters; null when there are none.</param>
    public UnigramModel(Dictionary<string, int> vocabulary, double[] scores, int unknown, int[]? byteIds)
    {
        _ids = vocabulary.GetAlternateLookup<ReadOnlySpan<char>>();
        (_scores, _unknown, _byteIds) = (scores, unknown, byteIds);
        _unknownScore = vocabulary.Values.Where(id => id != unknown).Select(id => scores[id]).DefaultIfEmpty(0).Min() - UnknownPenalty;
        _longest = vocabulary.Keys.Select(k => k.Length).DefaultIfEmpty(1).Max();
    }

    public override void Encode(ReadOnlySpan<char> piece, List<int> ids, List<(int Start, int Length)>? ranges)
    {
        var score = new double[piece.Length + 1];
        var idAt = new int[piece.Length + 1]; // id of the best token that ends here
        var startAt = new int[piece.Length + 1];
        Array.Fill(startAt, -1);
        startAt[0] = 0;
        for (var start = 0; start < piece.Length;)
        {
            Rune.DecodeFromUtf16(piece[start..], out _, out var first);
            var single = false;
            for (var length = 1; length <= Math.Min(_longest, piece.Length - start); length++)
            {
                if (_ids.TryGetValue(piece.Slice(start, length), out var id) && id != _unknown)
                {
                    Consider(start, length, id, score[start] + _scores[id]);
                    single |= length == first;
                }
            }

            if (!single)
            {
                Consider(start, first, _unknown, score[start] + _unknownScore);
            }

            start += first;
        }

        Append(piece, ids, ranges, idAt, startAt);

        void Consider(int start, int length, int id, double candidate)
        {
            var end = start + length;
            if (startAt[end] < 0 || candidate > score[end])
            {
                (score[end], idAt[end], startAt[end]) = (candidate, id, start);
            }
        }
    }

    private void Append(ReadOnlySpan<char> piece, List<int> ids, List<(int Start, int Length)>? ranges, int[] idAt, int[] startAt)
    {
        var ends = new Stack<int>();
        for (var end = piece.Length; end > 0; end = startAt[end])
        {
            ends.Push(end);
        }

        var unknownFrom = -1; // neighbouring unknown characters are one
        while (ends.TryPop(out var end))
        {
            var (id, start) = (idAt[end], startAt[end]);
            if (id != _unknown)
            {
                unknownFrom = -1;
                Add(id, start, end);
            }
            else if (_byteIds is { } byteIds)
            {
                foreach (var b in Encoding.UTF8.GetBytes(piece[start..end].ToString()))
                {
                    Add(byteIds[b], start, end);
                }
            }
            else if (unknownFrom < 0)
            {
                unknownFrom = start;
                Add(id, start, end);
            }
            else if (ranges is not null)
            {
                ranges[^1] = (unknownFrom, end - unknownFrom);
            }
        }

        void Add(int id, int start, int end)
        {
            ids.Add(id);
            ranges?.Add((start, end - start));
        }
    }
}
