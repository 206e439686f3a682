using System.Text;
using System.Text.RegularExpressions;

namespace LlmPipeline.Text.Sources;

/// <summary>A path pattern: <c>*</c> and <c>?</c> stay within a segment, <c>**</c> spans segments.</summary>
internal sealed class PathGlob
{
    private readonly Regex _regex;

    private PathGlob(string root, string pattern)
    {
        Root = root;
        _regex = new Regex(ToRegex(pattern), RegexOptions.CultureInvariant | RegexOptions.NonBacktracking);
    }

    /// <summary>The folder before the first wildcard.</summary>
    public string Root { get; }

    public static bool IsGlob(string path) => path.AsSpan().ContainsAny('*', '?');

    /// <summary>Splits a full path with wildcards into a folder and a pattern below it.</summary>
    public static PathGlob Parse(string path)
    {
        path = path.Replace('\\', '/');
        var fixedPart = path.LastIndexOf('/', path.AsSpan().IndexOfAny('*', '?'));
        var root = Path.GetFullPath(fixedPart <= 0 ? path[..(fixedPart + 1)] is "/" ? "/" : "." : path[..fixedPart]);
        return new PathGlob(root, path[(fixedPart + 1)..]);
    }

    /// <summary>A pattern of names that have no folder of this machine before them.</summary>
    public static PathGlob OfRelative(string pattern) => new("", pattern);

    public bool Matches(string name, bool relative) => relative ? _regex.IsMatch(name) : Matches(name);

    public bool Matches(string fullPath) => _regex.IsMatch(Path.GetRelativePath(Root, fullPath).Replace('\\', '/'));

    private static string ToRegex(string pattern)
    {
        var regex = new StringBuilder("^");
        for (var i = 0; i < pattern.Length; i++)
        {
            if (pattern.AsSpan(i).StartsWith("**/", StringComparison.Ordinal))
            {
                regex.Append("(?:[^/]+/)*");
                i += 2;
            }
            else if (pattern.AsSpan(i).StartsWith("**", StringComparison.Ordinal))
            {
                regex.Append(".*");
                i++;
            }
            else
            {
                regex.Append(pattern[i] switch
                {
                    '*' => "[^/]*",
                    '?' => "[^/]",
                    var c => Regex.Escape(c.ToString()),
                });
            }
        }

        return regex.Append('$').ToString();
    }
}
