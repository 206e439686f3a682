using System.Text;

namespace LlmPipeline.Gateway.Engine;

/// <summary>
/// Lets text through until one of the stop texts is complete, wherever the pieces are cut. The stop text that is complete first,
/// read character by character, counts; text that may be the beginning of one is held back.
/// </summary>
internal sealed class StopFilter(IReadOnlyList<string> stops)
{
    private readonly StringBuilder _held = new();

    /// <summary>Whether a stop text was found; what comes after it is dropped.</summary>
    public bool Stopped { get; private set; }

    /// <summary>Adds text and returns what may be shown.</summary>
    public string Append(string piece)
    {
        if (Stopped)
        {
            return "";
        }

        if (stops.Count == 0)
        {
            return piece;
        }

        var text = _held.Append(piece).ToString();
        _held.Clear();
        if (FirstStop(text) is { } start)
        {
            Stopped = true;
            return text[..start];
        }

        var shown = text.Length - stops.Max(stop => LongestBeginningAtEnd(text, stop));
        _held.Append(text, shown, text.Length - shown);
        return text[..shown];
    }

    /// <summary>What is still held back: there was no stop text in it.</summary>
    public string Finish()
    {
        var rest = Stopped ? "" : _held.ToString();
        _held.Clear();
        return rest;
    }

    /// <summary>Where the stop text begins whose end comes first, or null.</summary>
    private int? FirstStop(string text)
    {
        (int Start, int End)? first = null;
        foreach (var stop in stops)
        {
            var start = text.IndexOf(stop, StringComparison.Ordinal);
            var end = start + stop.Length;
            if (start >= 0 && (first is not { } best || end < best.End || (end == best.End && start < best.Start)))
            {
                first = (start, end);
            }
        }

        return first?.Start;
    }

    private static int LongestBeginningAtEnd(string text, string stop)
    {
        for (var length = Math.Min(text.Length, stop.Length - 1); length > 0; length--)
        {
            if (text.AsSpan(text.Length - length).SequenceEqual(stop.AsSpan(0, length)))
            {
                return length;
            }
        }

        return 0;
    }
}
