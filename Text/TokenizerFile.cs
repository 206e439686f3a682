using System.Text;
using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>
/// Reads tokenizer files: Hugging Face <c>tokenizer.json</c>, GPT-2's <c>vocab.json</c> with <c>merges.txt</c> (or <c>encoder.json</c> with
/// <c>vocab.bpe</c>), SentencePiece's <c>.model</c>, llama2.c's <c>tokenizer.bin</c>. Whatever the file, what is read can be written as a
/// <c>tokenizer.json</c> (<see cref="ITokenizer.ToJson"/>) that gives the same tokens.
/// </summary>
public static class TokenizerFile
{
    /// <summary>Larger files are refused before they are read.</summary>
    public const long MaxFileBytes = 48 << 20;

    private static readonly string[] NamesInFolders = ["tokenizer.json", "vocab.json", "encoder.json", "tokenizer.model", "tokenizer.bin"];
    private static readonly string[] Vocabularies = ["vocab.json", "encoder.json"];
    private static readonly string[] Merges = ["merges.txt", "vocab.bpe"];

    /// <summary>Reads a file, or the tokenizer in a folder; its content says which format it has.</summary>
    /// <param name="path">A file, or a folder with one of the files named above.</param>
    /// <exception cref="InvalidDataException">It is not a tokenizer, or one with something that is not supported; the message names file and place.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    public static ITokenizer Load(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (Directory.Exists(path))
        {
            path = NamesInFolders.Select(n => Path.Combine(path, n)).FirstOrDefault(File.Exists) ?? throw new InvalidDataException(
                $"'{path}' has no tokenizer: none of {string.Join(", ", NamesInFolders)}.");
        }

        try
        {
            return Read(path);
        }
        catch (InvalidDataException exception)
        {
            throw new InvalidDataException($"'{path}': {exception.Message}", exception);
        }
    }

    /// <summary>Reads the text of a <c>tokenizer.json</c>. The text is kept as it is, and so is its hash.</summary>
    /// <exception cref="InvalidDataException">The text is not such a file; the message says where.</exception>
    public static ITokenizer Parse(string json)
    {
        ArgumentNullException.ThrowIfNull(json);
        if (json.Length > MaxFileBytes)
        {
            throw new InvalidDataException($"tokenizer.json has {json.Length} characters; at most {MaxFileBytes} are read.");
        }

        try
        {
            using var document = JsonPart.Parse(Encoding.UTF8.GetBytes(json));
            return Parse(new JsonPart(document.RootElement, ""), json);
        }
        catch (InvalidDataException exception)
        {
            throw new InvalidDataException($"tokenizer.json cannot be used: {exception.Message}", exception);
        }
    }

    private static ITokenizer Read(string path)
    {
        var bytes = ReadBounded(path);
        ReadOnlyMemory<byte> text = bytes.AsSpan().StartsWith(Encoding.UTF8.Preamble) ? bytes.AsMemory(3) : bytes;
        var first = text.Span.TrimStart(" \t\r\n"u8);
        if (first is [(byte)'{', ..])
        {
            using var document = JsonPart.Parse(text);
            var root = new JsonPart(document.RootElement, "");
            // A vocabulary may have the token "model".
            return root.TryGet("model", out var model) && model.Element.ValueKind != JsonValueKind.Number ? Parse(root, Encoding.UTF8.GetString(text.Span)) : Gpt2Files.Read(root, MergesBeside(path));
        }

        if (first.StartsWith("#version"u8))
        {
            var vocabulary = Vocabularies.Select(n => Path.Combine(Path.GetDirectoryName(path) ?? "", n)).FirstOrDefault(File.Exists)
                ?? throw new InvalidDataException("these are the merges of a vocabulary, but there is no vocab.json or encoder.json beside them.");
            using var document = JsonPart.Parse(ReadBounded(vocabulary));
            return Gpt2Files.Read(new JsonPart(document.RootElement, ""), path);
        }

        return LlamaBinFile.LooksLike(bytes) ? LlamaBinFile.Read(bytes) : SentencePieceFile.Read(bytes);
    }

    private static ITokenizer Parse(JsonPart root, string json)
    {
        try
        {
            return Gpt2Files.IsByteLevel(root) ? BpeFile.Read(new TokenizerJson(root.Element), json)
                : CharacterFile.Is(root) ? CharacterFile.Read(new TokenizerJson(root.Element), json)
                : PipelineFile.Read(root, json);
        }
        catch (InvalidOperationException exception)
        {
            // Thrown for an escaped half of a surrogate pair, which is no character.
            throw new InvalidDataException($"the file has text that is not Unicode: {exception.Message}", exception);
        }
    }

    private static string MergesBeside(string path) =>
        Merges.Select(n => Path.Combine(Path.GetDirectoryName(path) ?? "", n)).FirstOrDefault(File.Exists) ?? throw new InvalidDataException(
            "the file has no model, and there is no merges.txt or vocab.bpe beside it: it is neither a tokenizer.json nor a GPT-2 vocabulary.");

    private static byte[] ReadBounded(string path)
    {
        var length = new FileInfo(path).Length;
        return length <= MaxFileBytes ? File.ReadAllBytes(path) : throw new InvalidDataException(
            $"the file has {length} bytes; at most {MaxFileBytes} are read, which is more than any tokenizer in use has.");
    }
}
