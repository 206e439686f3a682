using System.Collections;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace LlmPipeline.Cli.RunFiles;

/// <summary>Options of the form <c>--set training.steps=100</c>, applied over a run file.</summary>
internal static class Overrides
{
    /// <summary>
    /// Applies them in order; the last one of a key holds. A list is given as [a,b], or by one option for each item; either
    /// way it replaces the one in the file.
    /// </summary>
    /// <exception cref="RunFileException">One line for each mistake.</exception>
    public static void Apply(IReadOnlyList<string> options, IMessage message)
    {
        var errors = new List<string>();
        var lists = new HashSet<string>(StringComparer.Ordinal);
        foreach (var option in options)
        {
            if (Apply(option, message, lists) is { } error)
            {
                errors.Add($"--set {option}: {error}");
            }
        }

        if (errors.Count > 0)
        {
            throw new RunFileException(string.Join('\n', errors));
        }
    }

    private static string? Apply(string option, IMessage root, HashSet<string> lists)
    {
        var equals = option.IndexOf('=', StringComparison.Ordinal);
        if (equals <= 0)
        {
            return "expected KEY=VALUE, for example training.steps=100";
        }

        var (path, text) = (option[..equals], option[(equals + 1)..]);
        var message = root;
        var names = path.Split('.');
        for (var i = 0; ; i++)
        {
            var place = i == 0 ? "at the top level" : $"in '{string.Join('.', names[..i])}'";
            if (message.Descriptor.FindFieldByName(names[i]) is not { } field)
            {
                return $"unknown key '{names[i]}' {place}{Names.Suggest(names[i], message.Descriptor, root.Descriptor)}";
            }

            var isMessage = field.FieldType == FieldType.Message;
            if (i == names.Length - 1)
            {
                return isMessage && field.IsRepeated ? $"'{path}' is a list of keys with values: write it into a file"
                    : isMessage ? $"'{path}' has keys of its own: {Names.Of(field.MessageType)}" : Set(message, field, path, text, lists);
            }

            if (!isMessage || field.IsRepeated)
            {
                return $"'{string.Join('.', names[..(i + 1)])}' expects {(field.IsRepeated ? "a list" : Scalars.Expected(field))} and has no keys";
            }

            var child = (IMessage?)field.Accessor.GetValue(message) ?? field.MessageType.Parser.ParseFrom(ByteString.Empty);
            field.Accessor.SetValue(message, child);
            message = child;
        }
    }

    private static string? Set(IMessage message, FieldDescriptor field, string path, string text, HashSet<string> lists)
    {
        string[] items = field.IsRepeated && text is ['[', .. var inner, ']']
            ? inner.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
            : [text];
        var values = new List<object>();
        foreach (var item in items)
        {
            if (Scalars.Parse(item, field) is not { } value)
            {
                return $"'{path}' expects {Scalars.Expected(field)}, found '{item}'";
            }

            values.Add(value);
        }

        if (!field.IsRepeated)
        {
            field.Accessor.SetValue(message, values[0]);
            return null;
        }

        var list = (IList)field.Accessor.GetValue(message);
        if (lists.Add(path))
        {
            list.Clear();
        }

        values.ForEach(v => list.Add(v));
        return null;
    }
}
