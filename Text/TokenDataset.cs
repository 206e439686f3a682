using LlmPipeline.Storage;

namespace LlmPipeline.Text;

/// <summary>A committed dataset, opened for reading: its tokenizer and the token streams of its splits.</summary>
public sealed class TokenDataset : IDisposable
{
    /// <summary>Opens a dataset and verifies every shard against the manifest.</summary>
    /// <param name="store">Where it lies.</param>
    /// <param name="name">Format: <c>datasets/{d}</c>.</param>
    /// <param name="cancellationToken">Ends the opening.</param>
    /// <exception cref="BlobNotFoundException">There is no such dataset.</exception>
    /// <exception cref="CorruptDirectoryException">A shard is truncated or changed; the message names it.</exception>
    public static Task<TokenDataset> OpenAsync(IBlobStore store, string name, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();

    /// <summary>Format: <c>datasets/{d}</c>.</summary>
    public string Name => throw new NotImplementedException();

    /// <summary>Format: <c>tokenizers/{t}</c>.</summary>
    public string TokenizerName => throw new NotImplementedException();

    /// <summary>The tokenizer that made the ids.</summary>
    public ITokenizer Tokenizer => throw new NotImplementedException();

    /// <summary>A split: "train", "validation" or "test".</summary>
    /// <exception cref="InvalidDataException">The dataset has no such split, or it is empty.</exception>
    public TokenSplit Split(string split) => throw new NotImplementedException();

    /// <inheritdoc/>
    public void Dispose() => throw new NotImplementedException();
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
}
