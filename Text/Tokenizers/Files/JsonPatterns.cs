using System.Text;
using System.Text.RegularExpressions;

namespace LlmPipeline.Text;

/// <summary>Reads patterns: <c>{"String": "..."}</c> or <c>{"Regex": "..."}</c>.</summary>
internal static partial class JsonPatterns
{
    /// <summary>What \w is in files: .NET's leaves out marks that take space and letters that are numbers.</summary>
    public const string WordCharacters = @"\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}";

    // A hostile pattern must not hold a thread for ever.
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(5);

    /// <summary>The pattern as a .NET regular expression.</summary>
    public static Regex Read(JsonPart part)
    {
        if (part.TextOrNull("String") is { } text)
        {
            return new Regex(Regex.Escape(text), RegexOptions.CultureInvariant, Limit);
        }

        var expression = part.Get("Regex");
        try
        {
            return new Regex(ToDotNet(expression.AsText()), RegexOptions.CultureInvariant, Limit);
        }
        catch (ArgumentException exception)
        {
            throw new InvalidDataException($"{expression.Path} is a regular expression that .NET does not read: {exception.Message}", exception);
        }
    }

    // Differences between the two dialects that files in use need: possessive quantifiers, code points as \x{...}, and \w.
    private static string ToDotNet(string pattern)
    {
        pattern = Possessive().Replace(pattern, m => $"(?>{m.Groups[1].Value}{m.Groups[2].Value})");
        pattern = Words(pattern);
        return CodePoint().Replace(pattern, m =>
            Rune.TryCreate(Convert.ToInt32(m.Groups[1].Value, 16), out var rune) ? Regex.Escape(rune.ToString()) : m.Value);
    }

    private static string Words(string pattern)
    {
        var text = new StringBuilder(pattern.Length);
        var inClass = false;
        for (var i = 0; i < pattern.Length; i++)
        {
            var escaped = pattern[i] == '\\' && i + 1 < pattern.Length;
            if (escaped && pattern[i + 1] == 'w')
            {
                text.Append(inClass ? WordCharacters : $"[{WordCharacters}]");
            }
            else if (escaped && pattern[i + 1] == 'W' && !inClass)
            {
                text.Append('[').Append('^').Append(WordCharacters).Append(']');
            }
            else
            {
                inClass = !escaped && pattern[i] is '[' or ']' ? pattern[i] == '[' : inClass;
                text.Append(pattern, i, escaped ? 2 : 1);
            }

            i += escaped ? 1 : 0;
        }

        return text.ToString();
    }

    [GeneratedRegex(@"(\[(?:\\.|[^\]\\])*\]|\\[pP]\{[^}]*\}|\\.|[^\\()\[\]{}*+?|])([*+?]|\{\d+(?:,\d*)?\})\+")]
    private static partial Regex Possessive();

    [GeneratedRegex(@"\\x\{([0-9A-Fa-f]{1,6})\}")]
    private static partial Regex CodePoint();
}
