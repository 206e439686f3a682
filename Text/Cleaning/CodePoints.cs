using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>Sizes of text. A lone surrogate counts as the U+FFFD that it becomes in UTF-8.</summary>
internal static class CodePoints
{
    /// <summary>Number of code points.</summary>
    public static long Count(ReadOnlySpan<char> text)
    {
        var pairs = 0;
        for (var at = text.IndexOfAnyInRange('\uD800', '\uDBFF'); at >= 0 && at + 1 < text.Length;)
        {
            var isPair = char.IsLowSurrogate(text[at + 1]);
            pairs += isPair ? 1 : 0;
            var start = at + (isPair ? 2 : 1);
            var next = text[start..].IndexOfAnyInRange('\uD800', '\uDBFF');
            at = next < 0 ? -1 : start + next;
        }

        return text.Length - pairs;
    }

    /// <summary>Number of bytes of UTF-8.</summary>
    public static long Utf8Length(string text) => Encoding.UTF8.GetByteCount(text);
}
