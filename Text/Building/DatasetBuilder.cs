using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using LlmPipeline.Storage;
using LlmPipeline.Text.Shards;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>Where and how a builder works; what it makes does not depend on it.</summary>
/// <param name="ScratchFolder">Takes the cleaned text while a dataset is made.</param>
/// <param name="Degree">Documents in work at the same time.</param>
public sealed record DatasetBuilderOptions(string ScratchFolder, int Degree)
{
    /// <summary>The system's temporary folder and all processors.</summary>
    public static DatasetBuilderOptions Default => new(Path.GetTempPath(), Environment.ProcessorCount);

    /// <summary>Where and how sources are fetched.</summary>
    public SourceOptions Sources { get; init; } = new();

    internal long MaxShardBytes { get; init; } = ShardWriter.DefaultMaxShardBytes;
}

/// <summary>
/// Makes a dataset: reads, cleans, divides, trains a tokenizer, encodes, writes. The same recipe over the same files gives the same
/// bytes, on any number of processors.
/// </summary>
public sealed class DatasetBuilder(IBlobStore store, DatasetBuilderOptions options)
{
    /// <summary>Makes a dataset and commits it.</summary>
    /// <param name="recipe">What to make.</param>
    /// <param name="target">Name and origin of the dataset.</param>
    /// <param name="progress">Is moved on while the work goes on.</param>
    /// <param name="onStage">Awaited at the begin of each stage.</param>
    /// <param name="cancellationToken">Stops the work; nothing is committed then.</param>
    /// <exception cref="TextSourceException">The sources cannot be used.</exception>
    /// <exception cref="BlobNotFoundException">The recipe names a tokenizer that does not exist.</exception>
    public async Task<DatasetProperties> BuildAsync(
        DatasetRecipe recipe, DatasetTarget target, BuildProgress progress, Func<BuildStage, Task> onStage, CancellationToken cancellationToken = default)
    {
        ResourceName.IdOf(target.Name, "datasets");
        await BeginAsync(BuildStage.Reading);
        var files = await SourceFiles.FindAsync(recipe.Sources, options.Sources, cancellationToken);
        using var spool = new DocumentSpool(options.ScratchFolder);
        await new SourceReader(recipe, options.Sources, options.Degree, progress).ReadAsync(files, spool, cancellationToken);
        var splits = new SplitPlan(recipe).Ranges(spool);

        await BeginAsync(BuildStage.TrainingTokenizer);
        var tokenizer = recipe.TokenizerName is { } existing
            ? await StoredTokenizers.ReadAsync(store, existing, cancellationToken)
            : await TokenizerTraining.TrainAsync(recipe, spool, splits[0].Range, options.Degree, progress, cancellationToken);
        var tokenizerName = recipe.TokenizerName ?? await StoredTokenizers.WriteAsync(store, tokenizer, cancellationToken);

        await BeginAsync(BuildStage.Tokenizing);
        var directory = store.CreateDirectory(target.Name);
        var bytesPerToken = EncodedBatch.BytesPerToken(tokenizer.VocabularySize);
        var writer = new ShardWriter(directory, bytesPerToken, options.MaxShardBytes);
        var written = new List<SplitProperties>();
        long textBytes = 0;
        foreach (var (name, range) in splits)
        {
            var batches = spool.Read(range).ToAsyncEnumerable().SelectOrdered(batch => Encode(tokenizer, batch, bytesPerToken), options.Degree, cancellationToken);
            written.Add(await writer.WriteAsync(name, batches, CountWritten, cancellationToken));
        }

        var properties = new DatasetProperties
        {
            Format = DatasetProperties.CurrentFormat,
            Tokenizer = tokenizerName,
            TokenizerHash = tokenizer.Hash,
            VocabularySize = tokenizer.VocabularySize,
            DataType = bytesPerToken == sizeof(ushort) ? "uint16" : "uint32",
            DocumentCount = progress.Documents,
            DuplicateCount = progress.Duplicates,
            SourceByteCount = progress.SourceBytes,
            Splits = written,
            Spec = target.Spec,
            Fingerprint = target.Fingerprint,
        };
        await directory.CommitAsync(properties.ToJson(), default, cancellationToken);
        return properties;

        Task BeginAsync(BuildStage stage)
        {
            progress.Begin(stage);
            return onStage(stage);
        }

        void CountWritten(EncodedBatch batch)
        {
            textBytes += batch.TextBytes;
            progress.AddTokens(batch.DocumentTokens.Sum());
            progress.SetStageFraction((double)textBytes / spool.ByteCount);
        }
    }

    private static EncodedBatch Encode(ITokenizer tokenizer, SpoolBatch batch, int bytesPerToken)
    {
        var ids = new List<int>(batch.Bytes / 3);
        var lengths = new int[batch.Documents.Count];
        long characters = 0;
        for (var i = 0; i < lengths.Length; i++)
        {
            var document = batch.Documents[i];
            var before = ids.Count;
            tokenizer.Encode(document.Utf8.Span, ids);
            if (document.Ends)
            {
                ids.Add(tokenizer.EndOfTextId);
            }

            lengths[i] = ids.Count - before;
            characters += Utf8Text.CountCharacters(document.Utf8.Span);
        }

        return new EncodedBatch(EncodedBatch.Pack(CollectionsMarshal.AsSpan(ids), bytesPerToken), lengths, batch.Bytes, characters);
    }
}

/// <summary>What is made.</summary>
/// <param name="Name">Format: <c>datasets/{d}</c>.</param>
/// <param name="Spec">The fully resolved spec, kept in the manifest.</param>
/// <param name="Fingerprint">Identifies spec and source files, kept in the manifest.</param>
public sealed record DatasetTarget(string Name, JsonNode? Spec = null, string? Fingerprint = null);
