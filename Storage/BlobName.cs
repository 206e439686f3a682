namespace LlmPipeline.Storage;

/// <summary>Rules for names in storage. What breaks them never reaches a path.</summary>
public static class BlobName
{
    /// <summary>Longest name, in characters.</summary>
    public const int MaxLength = 240;

    /// <summary>Throws unless the name is one or more segments of <c>[A-Za-z0-9._-]</c> (none of them <c>.</c> or <c>..</c>) joined by <c>/</c>.</summary>
    /// <exception cref="ArgumentException">The name is not valid; the message says why.</exception>
    public static void Validate(string name)
    {
        if (string.IsNullOrEmpty(name))
        {
            throw new ArgumentException("A storage name is empty.", nameof(name));
        }

        if (name.Length > MaxLength)
        {
            throw new ArgumentException($"A storage name has {name.Length} characters; at most {MaxLength} are allowed.", nameof(name));
        }

        foreach (var range in name.AsSpan().Split('/'))
        {
            var segment = name.AsSpan()[range];
            if (segment.IsEmpty || segment is "." or ".." || segment.ContainsAnyExcept(SegmentCharacters))
            {
                throw new ArgumentException($"'{Printable(name)}' is not a storage name: its segments are made of letters, digits, '.', '_' and '-'.", nameof(name));
            }
        }
    }

    private static readonly System.Buffers.SearchValues<char> SegmentCharacters =
        System.Buffers.SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

    private static string Printable(string text) => string.Concat(text.Select(c => char.IsControl(c) ? '?' : c));
}
