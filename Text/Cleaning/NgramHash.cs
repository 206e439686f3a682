namespace LlmPipeline.Text.Cleaning;

/// <summary>The rolling hash of the last n words: a polynomial of their hashes (Karp and Rabin 1987), mixed.</summary>
internal ref struct NgramHash
{
    private const ulong Base = 0x9E3779B97F4A7C15;

    private readonly Span<ulong> _window;
    private readonly ulong _oldest = 1;
    private ulong _sum;

    /// <param name="window">As long as an n-gram.</param>
    public NgramHash(Span<ulong> window)
    {
        _window = window;
        window.Clear();
        for (var i = 0; i < window.Length; i++)
        {
            _oldest *= Base;
        }
    }

    /// <summary>Words added so far.</summary>
    public long Words { get; private set; }

    /// <summary>Whether there are as many words as an n-gram has.</summary>
    public readonly bool IsFull => Words >= _window.Length;

    /// <summary>Of the last n words, or of all when they are fewer.</summary>
    public readonly ulong Value => Hashing.Mix(_sum);

    public void Add(ulong word)
    {
        var slot = (int)((ulong)Words % (ulong)_window.Length);
        _sum = (_sum * Base) + word - (_window[slot] * _oldest);
        _window[slot] = word;
        Words++;
    }
}

/// <summary>64-bit hashing.</summary>
internal static class Hashing
{
    /// <summary>A bijection in which each bit of the result depends on every bit of the value (the finalizer of SplitMix64, Steele 2014).</summary>
    public static ulong Mix(ulong value)
    {
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }
}
