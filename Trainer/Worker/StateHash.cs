using System.Runtime.InteropServices;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// A 64-bit hash of buffers, to compare replicas that should be equal. Each of eight interleaved streams of words is folded by
/// <c>h = (h xor word) * odd</c>, a bijection of h for every word: buffers that differ in one word never have the same hash.
/// </summary>
internal static class StateHash
{
    private const ulong Odd = 0x9E3779B97F4A7C15;
    private const int Streams = 8;

    /// <summary>The hash of what was hashed before, followed by these values.</summary>
    public static ulong Add(ulong hash, ReadOnlySpan<float> values)
    {
        var words = MemoryMarshal.Cast<float, ulong>(values);
        ulong a = hash, b = hash ^ 1, c = hash ^ 2, d = hash ^ 3, e = hash ^ 4, f = hash ^ 5, g = hash ^ 6, h = hash ^ 7;
        var whole = words.Length - (words.Length % Streams);
        for (var i = 0; i < whole; i += Streams)
        {
            var part = words.Slice(i, Streams);
            a = (a ^ part[0]) * Odd;
            b = (b ^ part[1]) * Odd;
            c = (c ^ part[2]) * Odd;
            d = (d ^ part[3]) * Odd;
            e = (e ^ part[4]) * Odd;
            f = (f ^ part[5]) * Odd;
            g = (g ^ part[6]) * Odd;
            h = (h ^ part[7]) * Odd;
        }

        foreach (var word in words[whole..])
        {
            a = (a ^ word) * Odd;
        }

        if (values.Length % 2 == 1)
        {
            a = (a ^ BitConverter.SingleToUInt32Bits(values[^1])) * Odd;
        }

        var sum = (ulong)values.Length;
        foreach (var stream in (ReadOnlySpan<ulong>)[a, b, c, d, e, f, g, h])
        {
            sum = (sum ^ stream) * Odd;
            sum ^= sum >> 32;
        }

        return sum;
    }
}
