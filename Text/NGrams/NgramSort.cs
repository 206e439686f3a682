namespace LlmPipeline.Text.NGrams;

/// <summary>Sorts the positions of a text by the n-grams that begin there. Equal n-grams stand together; their order is of no account.</summary>
internal static class NgramSort
{
    private const int Buckets = 256;
    private const int SamplesPerBucket = 32;

    /// <summary>The positions, sorted.</summary>
    /// <param name="text">The text.</param>
    /// <param name="order">Longest n-gram.</param>
    /// <param name="progress">Called with the share done.</param>
    /// <param name="cancellationToken">Ends the sorting.</param>
    public static int[] Sort(NgramText text, int order, Action<double>? progress, CancellationToken cancellationToken)
    {
        var splitters = Splitters(text);
        var pieces = ParallelRanges.Cut(0, text.Length);
        var places = new int[pieces.Length - 1][];
        ParallelRanges.Run(places.Length, piece =>
        {
            var counts = places[piece] = new int[splitters.Length + 1];
            for (var position = pieces[piece]; position < pieces[piece + 1]; position++)
            {
                counts[BucketOf(splitters, text.KeyAt(position, 0))]++;
            }
        }, cancellationToken);

        // Counts become the places to write to: bucket by bucket, in each the pieces in their order.
        var bounds = new int[splitters.Length + 2];
        for (var bucket = 0; bucket <= splitters.Length; bucket++)
        {
            bounds[bucket + 1] = bounds[bucket];
            foreach (var counts in places)
            {
                (counts[bucket], bounds[bucket + 1]) = (bounds[bucket + 1], bounds[bucket + 1] + counts[bucket]);
            }
        }

        var keys = new ulong[text.Length];
        var positions = new int[text.Length];
        ParallelRanges.Run(places.Length, piece =>
        {
            for (var position = pieces[piece]; position < pieces[piece + 1]; position++)
            {
                var key = text.KeyAt(position, 0);
                var place = places[piece][BucketOf(splitters, key)]++;
                (keys[place], positions[place]) = (key, position);
            }
        }, cancellationToken);

        var done = 0;
        ParallelRanges.Run(bounds.Length - 1, bucket =>
        {
            Range range = bounds[bucket]..bounds[bucket + 1];
            Sort(text, order, keys.AsSpan(range), positions.AsSpan(range), 0);
            progress?.Invoke((double)Interlocked.Increment(ref done) / (bounds.Length - 1));
        }, cancellationToken);
        return positions;
    }

    /// <summary>Sorts by the given keys, then what is equal by the next ids.</summary>
    private static void Sort(NgramText text, int order, Span<ulong> keys, Span<int> positions, int number)
    {
        keys.Sort(positions);
        if ((number + 1) * text.KeyLength >= order)
        {
            return;
        }

        for (var begin = 0; begin < keys.Length;)
        {
            var end = begin + 1;
            while (end < keys.Length && keys[end] == keys[begin])
            {
                end++;
            }

            if (end - begin > 1)
            {
                for (var i = begin; i < end; i++)
                {
                    keys[i] = text.KeyAt(positions[i], number + 1);
                }

                Sort(text, order, keys[begin..end], positions[begin..end], number + 1);
            }

            begin = end;
        }
    }

    /// <summary>Keys that cut the text into buckets of about one size.</summary>
    private static ulong[] Splitters(NgramText text)
    {
        var samples = new ulong[Math.Min(text.Length, Buckets * SamplesPerBucket)];
        for (var i = 0; i < samples.Length; i++)
        {
            samples[i] = text.KeyAt((int)((long)text.Length * i / samples.Length), 0);
        }

        Array.Sort(samples);
        return [.. Enumerable.Range(1, Buckets - 1).Select(i => samples[samples.Length * i / Buckets]).Distinct()];
    }

    private static int BucketOf(ulong[] splitters, ulong key)
    {
        var place = Array.BinarySearch(splitters, key);
        return place >= 0 ? place : ~place;
    }
}
