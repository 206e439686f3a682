using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Text.Shards;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Preprocessor;

/// <summary>The tokenizers in storage, and files of other projects beside them.</summary>
internal sealed class TokenizerLibrary(IBlobStore store, TokenizerCache tokenizers, IOptions<PreprocessorOptions> options)
{
    private const string Prefix = "tokenizers/";
    private const string ManifestSuffix = "/manifest.json";

    /// <summary>A page of tokenizers.</summary>
    /// <param name="pageSize">As in ListTokenizersRequest.</param>
    /// <param name="pageToken">Name of the last tokenizer of the page before; empty for the first page.</param>
    /// <param name="cancellationToken">Ends the listing.</param>
    public async Task<ListTokenizersResponse> ListAsync(int pageSize, string pageToken, CancellationToken cancellationToken)
    {
        if (pageSize < 0)
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, $"page_size is {pageSize}; give 0 or a positive number.");
        }

        var wanted = pageSize == 0 ? 50 : Math.Min(pageSize, 1000);
        var response = new ListTokenizersResponse();
        await foreach (var blob in store.ListAsync(Prefix, cancellationToken))
        {
            if (!blob.Name.EndsWith(ManifestSuffix, StringComparison.Ordinal))
            {
                continue;
            }

            var name = blob.Name[..^ManifestSuffix.Length];
            if (string.CompareOrdinal(name, pageToken) <= 0 || await store.TryReadManifestAsync(name, cancellationToken) is not { } manifest)
            {
                continue;
            }

            if (response.Tokenizers.Count == wanted)
            {
                response.NextPageToken = response.Tokenizers[^1].Name;
                break;
            }

            response.Tokenizers.Add(new Tokenizer
            {
                Name = name,
                Kind = (string?)manifest.Properties["kind"] ?? "",
                VocabularySize = (int?)manifest.Properties["vocabulary_size"] ?? 0,
                Hash = (string?)manifest.Properties["hash"] ?? "",
            });
        }

        return response;
    }

    /// <summary>One tokenizer.</summary>
    public async Task<Tokenizer> GetAsync(string name, CancellationToken cancellationToken)
    {
        var tokenizer = await tokenizers.GetAsync(name, cancellationToken);
        var found = new Tokenizer { Name = name, Kind = tokenizer.Kind, VocabularySize = tokenizer.VocabularySize, Hash = tokenizer.Hash, EndOfTextId = tokenizer.EndOfTextId };
        if (tokenizer.UnknownId is { } unknown)
        {
            found.UnknownId = unknown;
        }

        foreach (var (token, id) in tokenizer.SpecialIds)
        {
            found.SpecialIds.Add(token, id);
        }

        return found;
    }

    /// <summary>Reads a tokenizer file of this machine into storage, and returns the tokenizer's name.</summary>
    /// <exception cref="Grpc.Core.RpcException">NOT_FOUND or INVALID_ARGUMENT; the message says what is wrong with the file.</exception>
    public async Task<string> ImportAsync(string file, CancellationToken cancellationToken) =>
        await StoredTokenizers.WriteAsync(store, await OpenFileAsync(file, cancellationToken), cancellationToken);

    /// <summary>A tokenizer by name, or read from a file of this machine.</summary>
    /// <param name="nameOrFile">tokenizers/{tokenizer}, or a path.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="Grpc.Core.RpcException">NOT_FOUND or INVALID_ARGUMENT; the message says what is wrong with it.</exception>
    public Task<ITokenizer> OpenAsync(string nameOrFile, CancellationToken cancellationToken) =>
        nameOrFile.StartsWith(Prefix, StringComparison.Ordinal) && !File.Exists(nameOrFile) && !Directory.Exists(nameOrFile)
            ? tokenizers.GetAsync(nameOrFile, cancellationToken)
            : OpenFileAsync(nameOrFile, cancellationToken);

    private async Task<ITokenizer> OpenFileAsync(string nameOrFile, CancellationToken cancellationToken)
    {
        if (!nameOrFile.Contains('\0', StringComparison.Ordinal) && nameOrFile.Length > 0 && !options.Value.MayRead(Path.GetFullPath(nameOrFile)))
        {
            RpcErrors.ThrowInvalidArgument(
                ErrorReasons.InvalidSpec, $"The tokenizer file '{nameOrFile}' is not in a folder that this service may read ({string.Join(", ", options.Value.SourceRoots)}).");
        }

        if (nameOrFile.Length == 0 || nameOrFile.Contains('\0', StringComparison.Ordinal) || !(File.Exists(nameOrFile) || Directory.Exists(nameOrFile)))
        {
            throw RpcErrors.Create(Grpc.Core.StatusCode.NotFound, ErrorReasons.NotFound,
                $"There is no tokenizer '{nameOrFile}'. Give tokenizers/ID, or the path of a tokenizer file on the machine that runs the Preprocessor.");
        }

        try
        {
            return await Task.Run(() => TokenizerFile.Load(nameOrFile), cancellationToken);
        }
        catch (Exception exception) when (exception is InvalidDataException or IOException or UnauthorizedAccessException)
        {
            throw RpcErrors.Create(Grpc.Core.StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, exception.Message);
        }
    }
}
