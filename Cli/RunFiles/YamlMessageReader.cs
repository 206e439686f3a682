using System.Collections;
using System.Globalization;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace LlmPipeline.Cli.RunFiles;

/// <summary>Fills a protobuf message from YAML with the same keys. What does not fit is an error with its line and column.</summary>
/// <remarks>Knows messages, lists of scalars, texts, numbers and switches: what run files are made of.</remarks>
internal sealed class YamlMessageReader
{
    private readonly string _file;
    private readonly List<string> _errors = [];
    private MessageDescriptor? _root;

    private YamlMessageReader(string file) => _file = file;

    /// <summary>Reads a whole text.</summary>
    /// <param name="file">Name for error messages.</param>
    /// <param name="yaml">One YAML document, or nothing at all.</param>
    /// <param name="message">Is filled.</param>
    /// <exception cref="RunFileException">One line for each mistake.</exception>
    public static void Read(string file, string yaml, IMessage message)
    {
        var reader = new YamlMessageReader(file);
        try
        {
            var stream = new YamlStream();
            stream.Load(new StringReader(yaml));
            if (stream.Documents.Count > 1)
            {
                reader.Error(stream.Documents[1].RootNode, "a second document begins here; a run file has one");
            }
            else if (stream.Documents.Count == 1 && !IsNull(stream.Documents[0].RootNode))
            {
                reader._root = message.Descriptor;
                reader.ReadMessage(stream.Documents[0].RootNode, message, path: "");
            }
        }
        catch (YamlException exception)
        {
            reader._errors.Add($"{file}:{exception.Start.Line}:{exception.Start.Column}: {(exception.InnerException ?? exception).Message}");
        }

        if (reader._errors.Count > 0)
        {
            throw new RunFileException(string.Join('\n', reader._errors));
        }
    }

    private void ReadMessage(YamlNode node, IMessage message, string path)
    {
        var place = path.Length == 0 ? "at the top level" : $"in '{path}'";
        if (node is not YamlMappingNode mapping)
        {
            Error(node, $"{(path.Length == 0 ? "a run file" : $"'{path}'")} expects keys with values, found {Found(node)}; keys are {Names.Of(message.Descriptor)}");
            return;
        }

        foreach (var (key, value) in mapping.Children)
        {
            var name = (key as YamlScalarNode)?.Value;
            if (name is null || message.Descriptor.FindFieldByName(name) is not { } field)
            {
                Error(key, $"unknown key '{name ?? "?"}' {place}{Names.Suggest(name ?? "", message.Descriptor, _root!)}");
            }
            else
            {
                ReadField(value, message, field, path.Length == 0 ? name : $"{path}.{name}");
            }
        }
    }

    private void ReadField(YamlNode node, IMessage message, FieldDescriptor field, string path)
    {
        if (field.IsRepeated)
        {
            if (node is not YamlSequenceNode sequence)
            {
                Error(node, $"'{path}' expects a list, found {Found(node)}; write [a, b], or a line with '- ' for each");
                return;
            }

            var list = (IList)field.Accessor.GetValue(message);
            for (var i = 0; i < sequence.Children.Count; i++)
            {
                var item = sequence.Children[i];
                if (field.FieldType == FieldType.Message)
                {
                    var child = field.MessageType.Parser.ParseFrom(ByteString.Empty);
                    ReadMessage(item, child, string.Create(CultureInfo.InvariantCulture, $"{path}[{i}]"));
                    list.Add(child);
                }
                else if (TryReadScalar(item, field, path, out var value))
                {
                    list.Add(value);
                }
            }
        }
        else if (field.FieldType == FieldType.Message)
        {
            var child = (IMessage?)field.Accessor.GetValue(message) ?? field.MessageType.Parser.ParseFrom(ByteString.Empty);
            if (!IsNull(node))
            {
                ReadMessage(node, child, path);
            }

            field.Accessor.SetValue(message, child);
        }
        else if (TryReadScalar(node, field, path, out var value))
        {
            field.Accessor.SetValue(message, value);
        }
    }

    private bool TryReadScalar(YamlNode node, FieldDescriptor field, string path, out object? value)
    {
        value = null;
        if (node is YamlScalarNode scalar && !IsNull(node) && (field.FieldType == FieldType.String || scalar.Style == ScalarStyle.Plain))
        {
            value = Scalars.Parse(scalar.Value!, field);
        }

        if (value is null)
        {
            var hint = node is YamlMappingNode { Children: [var pair] } && IsNull(pair.Value) ? $"; put a text that ends in ':' into quotes: \"{pair.Key}:\"" : "";
            Error(node, $"'{path}' expects {Scalars.Expected(field)}, found {Found(node)}{hint}");
        }

        return value is not null;
    }

    private static bool IsNull(YamlNode node) => node is YamlScalarNode { Style: ScalarStyle.Plain, Value: null or "" or "~" or "null" };

    private static string Found(YamlNode node) => node switch
    {
        _ when IsNull(node) => "nothing",
        YamlScalarNode { Style: ScalarStyle.Plain } scalar => $"'{scalar.Value}'",
        YamlScalarNode scalar => $"the text \"{scalar.Value}\"",
        YamlSequenceNode => "a list",
        _ => "keys with values",
    };

    private void Error(YamlNode node, string message) =>
        _errors.Add(string.Create(CultureInfo.InvariantCulture, $"{_file}:{node.Start.Line}:{node.Start.Column}: {message}"));
}

/// <summary>A run file or a --set option has mistakes; the message has a line for each.</summary>
internal sealed class RunFileException(string message) : Exception(message);
