namespace LlmPipeline.Storage;

/// <summary>Rules for names in storage. What breaks them never reaches a path.</summary>
public static class BlobName
{
    /// <summary>Longest name, in characters.</summary>
    public const int MaxLength = 240;

    /// <summary>
    /// Throws unless the name is one or more segments of <c>[A-Za-z0-9._-]</c> joined by <c>/</c>, none of which begins with
    /// <c>.</c>: stores keep their own things under such names.
    /// </summary>
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
            if (segment.IsEmpty || segment[0] == '.' || segment.ContainsAnyExcept(SegmentCharacters))
            {
                throw new ArgumentException($"'{Printable(name)}' is not a storage name: its segments are made of letters, digits, '.', '_' and '-', and none begins with '.'.", nameof(name));
            }
        }
    }

    /// <summary>Throws unless names can begin with the prefix; the empty prefix is one of all names.</summary>
    /// <exception cref="ArgumentException">No name begins with it.</exception>
    public static void ValidatePrefix(string prefix)
    {
        ArgumentNullException.ThrowIfNull(prefix);
        if (prefix.Length > 0)
        {
            Validate(prefix.EndsWith('/') && prefix.Length < MaxLength ? prefix + "x" : prefix);
        }
    }

    internal static bool IsValid(string name)
    {
        try
        {
            Validate(name);
            return true;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    private static readonly System.Buffers.SearchValues<char> SegmentCharacters =
        System.Buffers.SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

    private static string Printable(string text) => string.Concat(text.Select(c => char.IsControl(c) ? '?' : c));
}
