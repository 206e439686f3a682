using System.Globalization;
using System.Text.Json.Nodes;
using LlmPipeline.Models;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using Microsoft.Extensions.Options;
using TorchSharp;

namespace LlmPipeline.Gateway.Catalogue;

/// <summary>Publishes models that other software wrote: Hugging Face directories and llama2.c checkpoints.</summary>
internal sealed class ModelImporter(IBlobStore store, ModelCatalogue catalogue, IOptions<GatewayOptions> options, TimeProvider time)
{

    /// <summary>Reads a model of this machine, and publishes it as the next version.</summary>
    /// <param name="path">A folder, or a checkpoint file.</param>
    /// <param name="model">Id to publish it under.</param>
    /// <param name="tokenizer">A tokenizer file, or a folder with one; empty for the one that lies with the model.</param>
    /// <param name="cancellationToken">Ends the import.</param>
    /// <exception cref="GatewayException">There is nothing at the path, or no model that can be computed.</exception>
    /// <exception cref="InvalidResourceNameException">The id is none.</exception>
    public async Task<ModelVersion> ImportAsync(string path, string model, string tokenizer, CancellationToken cancellationToken)
    {
        ResourceName.RequireId(model, "model_id");
        path = Readable(path, "path");
        tokenizer = tokenizer.Length > 0 ? Readable(tokenizer, "tokenizer") : File.Exists(path) ? Path.GetDirectoryName(path)! : path;
        var (network, vocabulary) = await Task.Run(() => Load(path, tokenizer), cancellationToken);
        using (network)
        {
            var name = await PublishAsync(network, vocabulary, path, model, cancellationToken);
            await catalogue.RefreshAsync(cancellationToken);
            return catalogue.Find(name) ?? throw catalogue.NotFound(name);
        }
    }

    private static (ITokenModel Model, ITokenizer Tokenizer) Load(string path, string tokenizerPath)
    {
        try
        {
            var tokenizer = TokenizerFile.Load(tokenizerPath);
            var model = File.Exists(path) ? Llama2cCheckpoint.Load(path, torch.CPU) : ModelDirectory.Load(path, torch.CPU);
            if (model.VocabularySize == tokenizer.VocabularySize)
            {
                return (model, tokenizer);
            }

            var size = model.VocabularySize;
            model.Dispose();
            throw GatewayException.Invalid("tokenizer", $"'{path}' has {size} ids, and the tokenizer of '{tokenizerPath}' has {tokenizer.VocabularySize}. Name the tokenizer that the model was trained with.");
        }
        catch (Exception exception) when (exception is InvalidDataException or IOException or UnauthorizedAccessException)
        {
            throw GatewayException.Invalid("path", exception.Message);
        }
    }

    private async Task<string> PublishAsync(ITokenModel model, ITokenizer tokenizer, string path, string id, CancellationToken cancellationToken)
    {
        var properties = new JsonObject
        {
            ["imported_from"] = path,
            ["parameter_count"] = model.ParameterCount,
            ["context"] = model.Context,
            ["vocabulary_size"] = model.VocabularySize,
            ["create_time"] = time.GetUtcNow().ToString("O", CultureInfo.InvariantCulture),
        };
        return await ModelVersions.PublishAsync(store, $"models/{id}", _ => Task.FromResult(false), async (directory, token) =>
        {
            await ModelDirectory.WriteAsync(directory, model, tokenizer.ToJson(), cancellationToken: token);
            return properties;
        }, time, cancellationToken);
    }

    private string Readable(string path, string field)
    {
        var printable = string.Concat(path.Take(200).Select(c => char.IsControl(c) ? '?' : c));
        if (path.Length == 0 || path.Contains('\0', StringComparison.Ordinal))
        {
            throw GatewayException.Invalid(field, $"{field} is '{printable}': give a path on the machine that runs the Gateway.");
        }

        var full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        return !options.Value.MayImport(full)
            ? throw GatewayException.Invalid(field, $"'{printable}' is not in a folder that the Gateway may import from ({string.Join(", ", options.Value.ImportRoots)}).")
            : File.Exists(full) || Directory.Exists(full) ? full
            : throw GatewayException.Invalid(field, $"There is no '{printable}' on the machine that runs the Gateway: give the path of a folder with config.json, or of a llama2.c checkpoint.");
    }
}
