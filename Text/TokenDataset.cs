using LlmPipeline.Storage;
using LlmPipeline.Text.Shards;

namespace LlmPipeline.Text;

/// <summary>A committed dataset, opened for reading: its tokenizer and the token streams of its splits.</summary>
public sealed class TokenDataset : IDisposable
{
    private readonly Dictionary<string, MappedTokenSplit> _splits;

    private TokenDataset(string name, DatasetProperties properties, ITokenizer tokenizer, Dictionary<string, MappedTokenSplit> splits)
    {
        Name = name;
        Properties = properties;
        Tokenizer = tokenizer;
        _splits = splits;
    }

    /// <summary>Format: <c>datasets/{d}</c>.</summary>
    public string Name { get; }

    /// <summary>What the manifest says.</summary>
    public DatasetProperties Properties { get; }

    /// <summary>Format: <c>tokenizers/{t}</c>.</summary>
    public string TokenizerName => Properties.Tokenizer;

    /// <summary>The tokenizer that made the ids.</summary>
    public ITokenizer Tokenizer { get; }

    /// <summary>Opens a dataset and verifies every shard against the manifest.</summary>
    /// <param name="store">Where it lies.</param>
    /// <param name="name">Format: <c>datasets/{d}</c>.</param>
    /// <param name="cancellationToken">Ends the opening.</param>
    /// <exception cref="BlobNotFoundException">There is no such dataset.</exception>
    /// <exception cref="CorruptDirectoryException">A shard is truncated or changed; the message names it.</exception>
    public static async Task<TokenDataset> OpenAsync(IBlobStore store, string name, CancellationToken cancellationToken = default)
    {
        ResourceName.IdOf(name, "datasets");
        var manifest = await store.TryReadManifestAsync(name, cancellationToken) ?? throw new BlobNotFoundException(name);
        var properties = DatasetProperties.FromManifest(manifest, name);
        var folder = await store.GetVerifiedLocalDirectoryAsync(name, cancellationToken);
        var tokenizer = await StoredTokenizers.ReadAsync(store, properties.Tokenizer, cancellationToken);
        if (tokenizer.Hash != properties.TokenizerHash)
        {
            throw new CorruptDirectoryException($"'{properties.Tokenizer}' is not the tokenizer that '{name}' was made with. Delete '{name}' and create the dataset again.");
        }

        var splits = new Dictionary<string, MappedTokenSplit>(StringComparer.Ordinal);
        try
        {
            foreach (var split in properties.Splits)
            {
                splits.Add(split.Split, new MappedTokenSplit(name, folder, split, EncodedBatch.BytesPerToken(properties.VocabularySize + (properties.Labels?.Count ?? 0))));
            }
        }
        catch
        {
            DisposeAll(splits);
            throw;
        }

        return new TokenDataset(name, properties, tokenizer, splits);
    }

    /// <summary>A split: "train", "validation" or "test".</summary>
    /// <exception cref="InvalidDataException">The dataset has no such split, or it is empty.</exception>
    public TokenSplit Split(string split) => _splits.TryGetValue(split, out var found) && found.TokenCount > 0 ? found : throw new InvalidDataException(
        $"'{Name}' has no {split} split; it has {string.Join(", ", _splits.Keys)}. Create a dataset with a split.{split}_fraction above 0.");

    /// <inheritdoc/>
    public void Dispose() => DisposeAll(_splits);

    private static void DisposeAll(Dictionary<string, MappedTokenSplit> splits)
    {
        foreach (var split in splits.Values)
        {
            split.Dispose();
        }
    }
}

/// <summary>One stream of ids: the documents of a split one after another, each followed by the end-of-text id. Random access, safe for many threads.</summary>
public abstract class TokenSplit
{
    /// <summary>Number of ids.</summary>
    public abstract long TokenCount { get; }

    /// <summary>Bytes of the UTF-8 text that the ids stand for.</summary>
    public abstract long ByteCount { get; }

    /// <summary>Number of documents.</summary>
    public abstract long DocumentCount { get; }

    /// <summary>Copies ids from a position on; fills the whole span.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The range goes beyond the split.</exception>
    public abstract void Read(long position, Span<int> ids);

    /// <summary>Where a document begins, and how many ids it has, the last one included that ends it.</summary>
    /// <param name="index">0 to <see cref="DocumentCount"/>, exclusive.</param>
    /// <exception cref="NotSupportedException">The stream does not know its documents.</exception>
    public virtual (long Start, int Length) Document(long index) => throw new NotSupportedException("This stream of ids does not know its documents.");
}
