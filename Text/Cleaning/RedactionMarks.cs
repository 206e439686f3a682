using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>What stands for redacted data, by <see cref="PersonalDataKind"/>.</summary>
internal static class RedactionMarks
{
    public static readonly string[] All = ["<EMAIL>", "<PHONE>", "<IP>"];

    /// <summary>Changes what stands between marks; the same instance where nothing changes.</summary>
    public static string ApplyAround(string text, Func<string, string> apply)
    {
        var (next, length) = Next(text, 0);
        if (next < 0)
        {
            return apply(text);
        }

        var changed = new StringBuilder(text.Length);
        var start = 0;
        for (; next >= 0; (next, length) = Next(text, start))
        {
            changed.Append(apply(text[start..next])).Append(text, next, length);
            start = next + length;
        }

        changed.Append(apply(text[start..]));
        return changed.Equals(text.AsSpan()) ? text : changed.ToString();
    }

    private static (int Start, int Length) Next(string text, int from)
    {
        for (var at = text.IndexOf('<', from); at >= 0; at = text.IndexOf('<', at + 1))
        {
            foreach (var mark in All)
            {
                if (text.AsSpan(at).StartsWith(mark))
                {
                    return (at, mark.Length);
                }
            }
        }

        return (-1, 0);
    }
}
