using System.Collections.Concurrent;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Text.Shards;

namespace LlmPipeline.Preprocessor;

/// <summary>Tokenizers that were asked for. They never change, so a few are kept.</summary>
internal sealed class TokenizerCache(IBlobStore store)
{
    private const int Capacity = 16;

    private readonly ConcurrentDictionary<string, ITokenizer> _tokenizers = new(StringComparer.Ordinal);

    /// <summary>A tokenizer.</summary>
    /// <param name="name">Format: <c>tokenizers/{t}</c>.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="Grpc.Core.RpcException">NOT_FOUND, or DATA_LOSS when its file is damaged.</exception>
    public async Task<ITokenizer> GetAsync(string name, CancellationToken cancellationToken)
    {
        if (_tokenizers.TryGetValue(name, out var tokenizer))
        {
            return tokenizer;
        }

        try
        {
            tokenizer = await StoredTokenizers.ReadAsync(store, name, cancellationToken);
        }
        catch (BlobNotFoundException)
        {
            throw RpcErrors.Create(Grpc.Core.StatusCode.NotFound, ErrorReasons.NotFound,
                $"'{name}' does not exist. A dataset names its tokenizer once it is READY.");
        }
        catch (CorruptDirectoryException exception)
        {
            throw RpcErrors.Create(Grpc.Core.StatusCode.DataLoss, ErrorReasons.CorruptData, exception.Message);
        }

        if (_tokenizers.Count >= Capacity)
        {
            _tokenizers.Clear();
        }

        _tokenizers[name] = tokenizer;
        return tokenizer;
    }
}
