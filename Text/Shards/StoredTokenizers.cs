using System.Text.Json.Nodes;
using LlmPipeline.Storage;

namespace LlmPipeline.Text.Shards;

/// <summary>Tokenizers in storage: <c>tokenizers/{t}/tokenizer.json</c> and a manifest.</summary>
public static class StoredTokenizers
{
    /// <summary>The file within the directory.</summary>
    public const string File = "tokenizer.json";

    /// <summary>Reads a tokenizer.</summary>
    /// <param name="store">Where it lies.</param>
    /// <param name="name">Format: <c>tokenizers/{t}</c>.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="InvalidResourceNameException">The name has another form.</exception>
    /// <exception cref="BlobNotFoundException">There is no such tokenizer.</exception>
    /// <exception cref="CorruptDirectoryException">Its file is damaged.</exception>
    public static async Task<ITokenizer> ReadAsync(IBlobStore store, string name, CancellationToken cancellationToken = default)
    {
        ResourceName.IdOf(name, "tokenizers");
        var manifest = await store.TryReadManifestAsync(name, cancellationToken) ?? throw new BlobNotFoundException(name);
        var (json, _) = await store.TryReadTextAsync($"{name}/{File}", cancellationToken) ?? throw new BlobNotFoundException($"{name}/{File}");
        ITokenizer tokenizer;
        try
        {
            tokenizer = TokenizerFile.Parse(json);
        }
        catch (InvalidDataException exception)
        {
            throw new CorruptDirectoryException($"'{name}/{File}' is damaged: {exception.Message} Create the dataset again.");
        }

        return manifest.Files.Any(f => f.Name == File && f.Sha256 == tokenizer.Hash) ? tokenizer : throw new CorruptDirectoryException(
            $"'{name}/{File}' is not the file that its manifest names. Create the dataset again.");
    }

    /// <summary>Writes a tokenizer, unless it is there already, and returns its name, which is derived from its content.</summary>
    public static async Task<string> WriteAsync(IBlobStore store, ITokenizer tokenizer, CancellationToken cancellationToken = default)
    {
        var name = $"tokenizers/{tokenizer.Kind}-{tokenizer.VocabularySize}-{tokenizer.Hash[..12]}";
        if (await store.TryReadManifestAsync(name, cancellationToken) is not null)
        {
            return name;
        }

        var directory = store.CreateDirectory(name);
        await directory.WriteTextAsync(File, tokenizer.ToJson(), cancellationToken);
        await directory.CommitAsync(
            new JsonObject { ["kind"] = tokenizer.Kind, ["vocabulary_size"] = tokenizer.VocabularySize, ["hash"] = tokenizer.Hash }, default, cancellationToken);
        return name;
    }
}
