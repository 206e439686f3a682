namespace LlmPipeline.Text.Sources;

/// <summary>
/// Where a long text is cut into documents. Cuts belong to fixed steps of the text, so that each can be found without reading what
/// is before it: behind the first line end in a window after the step; else behind the first white space; else at a character.
/// </summary>
internal static class TextCut
{
    /// <summary>A text of at most this many bytes is one document, and none is longer.</summary>
    public const int MaxBytes = 8 << 20;

    /// <summary>Bytes from one step to the next.</summary>
    public const int StepBytes = 7 << 20;

    /// <summary>Bytes after a step in which the cut is looked for.</summary>
    public const int WindowBytes = MaxBytes - StepBytes;

    /// <summary>The cut, counted from the step.</summary>
    /// <param name="window">The bytes from the step on: <see cref="WindowBytes"/>, or fewer where the text ends.</param>
    public static int Find(ReadOnlySpan<byte> window)
    {
        window = window.Length > WindowBytes ? window[..WindowBytes] : window;
        var at = window.IndexOf((byte)'\n');
        at = at < 0 ? window.IndexOfAny((byte)' ', (byte)'\t', (byte)'\r') : at;
        if (at >= 0)
        {
            return at + 1;
        }

        // Not before the rest of a character.
        for (at = 0; at < Math.Min(3, window.Length) && (window[at] & 0xC0) == 0x80;)
        {
            at++;
        }

        return at;
    }
}
