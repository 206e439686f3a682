using System.Diagnostics.CodeAnalysis;

namespace LlmPipeline.Storage;

/// <summary>Resource names, the same strings in the API, in storage and in logs: <c>datasets/{d}</c>, <c>tokenizers/{t}</c>,
/// <c>runs/{r}</c>, <c>runs/{r}/checkpoints/{step}</c>, <c>models/{m}</c>, <c>models/{m}/versions/{v}</c>, <c>evaluations/{e}</c>.</summary>
public static class ResourceName
{
    /// <summary>Whether a text is an id: 4 to 63 characters of <c>[a-z0-9-]</c>.</summary>
    public static bool IsId([NotNullWhen(true)] string? id) =>
        id is { Length: >= 4 and <= 63 } && id.All(c => c is (>= 'a' and <= 'z') or (>= '0' and <= '9') or '-');

    /// <summary>Throws unless the text is an id.</summary>
    /// <exception cref="InvalidResourceNameException">It is not.</exception>
    public static void RequireId(string? id, string field)
    {
        if (!IsId(id))
        {
            throw new InvalidResourceNameException($"{field} '{Printable(id)}' is not an id: use 4 to 63 of a-z, 0-9 and '-'.");
        }
    }

    /// <summary>The id in <c>{collection}/{id}</c>.</summary>
    /// <exception cref="InvalidResourceNameException">The name has another form.</exception>
    public static string IdOf(string? name, string collection)
    {
        var parts = (name ?? "").Split('/');
        return parts.Length == 2 && parts[0] == collection && IsId(parts[1])
            ? parts[1]
            : throw new InvalidResourceNameException($"'{Printable(name)}' is not a name of the form {collection}/ID, with an id of 4 to 63 of a-z, 0-9 and '-'.");
    }

    /// <summary>Name of a checkpoint. The step is padded, so that names sort by step.</summary>
    public static string Checkpoint(string run, long step) => $"{run}/checkpoints/{step:D8}";

    /// <summary>Splits <c>runs/{r}/checkpoints/{step}</c>.</summary>
    /// <exception cref="InvalidResourceNameException">The name has another form.</exception>
    public static (string Run, long Step) ParseCheckpoint(string? name)
    {
        var parts = (name ?? "").Split('/');
        return parts is ["runs", var run, "checkpoints", var step] && IsId(run) && step.Length <= 18 && step.Length > 0 && step.All(char.IsAsciiDigit)
            ? ($"runs/{run}", long.Parse(step, System.Globalization.CultureInfo.InvariantCulture))
            : throw new InvalidResourceNameException($"'{Printable(name)}' is not a name of the form runs/RUN/checkpoints/STEP.");
    }

    /// <summary>Splits <c>models/{m}</c> (version null) or <c>models/{m}/versions/{v}</c>. Versions are counted from 1.</summary>
    /// <exception cref="InvalidResourceNameException">The name has another form.</exception>
    public static (string Model, int? Version) ParseModel(string? name)
    {
        var parts = (name ?? "").Split('/');
        return parts switch
        {
            ["models", var model] when IsId(model) => (model, null),
            ["models", var model, "versions", var version] when IsId(model) && version.Length is > 0 and <= 9 && version.All(char.IsAsciiDigit)
                => (model, int.Parse(version, System.Globalization.CultureInfo.InvariantCulture)),
            _ => throw new InvalidResourceNameException($"'{Printable(name)}' is not a name of the form models/MODEL or models/MODEL/versions/VERSION."),
        };
    }

    private static string Printable(string? text)
    {
        text = string.Concat((text ?? "").Select(c => char.IsControl(c) ? '?' : c));
        return text.Length > 80 ? text[..80] + "..." : text;
    }
}

/// <summary>A name or id from outside has the wrong form. Services answer INVALID_ARGUMENT.</summary>
public sealed class InvalidResourceNameException(string message) : ArgumentException(message);
