using Google.Protobuf.Reflection;

namespace LlmPipeline.Cli.RunFiles;

/// <summary>Helps with misspelt and misplaced keys.</summary>
internal static class Names
{
    /// <summary>The keys of a message, in order.</summary>
    public static string Of(MessageDescriptor message) => string.Join(", ", message.Fields.InFieldNumberOrder().Select(f => f.Name));

    /// <summary>The end of a sentence about an unknown key: what it may have been meant to be, and what there is.</summary>
    public static string Suggest(string name, MessageDescriptor message, MessageDescriptor root)
    {
        var nearest = message.Fields.InFieldNumberOrder()
            .Select(f => (f.Name, Distance: Distance(name, f.Name)))
            .MinBy(f => f.Distance);
        var elsewhere = Paths(root, "").Where(p => p == name || p.EndsWith("." + name, StringComparison.Ordinal)).ToList();
        var suggestion = nearest.Name is not null && nearest.Distance <= Math.Max(1, Math.Max(name.Length, nearest.Name.Length) / 3) ? $"; did you mean '{nearest.Name}'?"
            : elsewhere.Count > 0 ? $"; did you mean {string.Join(" or ", elsewhere.Select(p => $"'{p}'"))}?"
            : ";";
        return $"{suggestion} Keys here are {Of(message)}".Replace("; Keys", "; keys", StringComparison.Ordinal);
    }

    private static IEnumerable<string> Paths(MessageDescriptor message, string prefix) => message.Fields.InFieldNumberOrder()
        .SelectMany(f => f.FieldType == FieldType.Message && !f.IsRepeated ? Paths(f.MessageType, $"{prefix}{f.Name}.").Prepend(prefix + f.Name) : [prefix + f.Name]);

    // Edits of single letters, and swaps of neighbours (optimal string alignment).
    private static int Distance(string a, string b)
    {
        var table = new int[a.Length + 1, b.Length + 1];
        for (var i = 0; i <= a.Length; i++)
        {
            for (var j = 0; j <= b.Length; j++)
            {
                if (i == 0 || j == 0)
                {
                    table[i, j] = i + j;
                    continue;
                }

                table[i, j] = Math.Min(Math.Min(table[i - 1, j], table[i, j - 1]) + 1, table[i - 1, j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1));
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                {
                    table[i, j] = Math.Min(table[i, j], table[i - 2, j - 2] + 1);
                }
            }
        }

        return table[a.Length, b.Length];
    }
}
