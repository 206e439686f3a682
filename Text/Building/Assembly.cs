using LlmPipeline.Storage;
using LlmPipeline.Text.Reports;
using LlmPipeline.Text.Shards;

namespace LlmPipeline.Text.Building;

/// <summary>Puts the encoded units together: shards, data card, manifest. One process does it.</summary>
internal sealed class Assembly(
    IBlobStore store, JobFolder folder, UnitPlan plan, Selection selection, ITokenizer tokenizer, string tokenizerName, DatasetBuilderOptions options, BuildProgress progress,
    HeldLease? lease)
{
    private readonly DatasetRecipe _recipe = folder.Job.Recipe;
    private readonly int _bytesPerToken = EncodedBatch.BytesPerToken(tokenizer.VocabularySize + (selection.Labels?.Count ?? 0));

    /// <summary>Writes all files and commits the dataset.</summary>
    public async Task<DatasetProperties> WriteAsync(IReadOnlyList<ReadResult> read, IReadOnlyList<EncodeResult> encoded, CancellationToken cancellationToken)
    {
        var partTokens = plan.Parts.Select(p => encoded.Skip(p.FirstUnit).Take(p.UnitCount).Sum(e => e.Splits[0].Tokens)).ToList();
        var budgets = TokenBudget.Divide(_recipe, partTokens);
        var directory = store.CreateDirectory(folder.Job.Target);
        var writer = new ShardWriter(directory, _bytesPerToken, options.ScratchFolder, options.MaxShardBytes);
        var written = new List<SplitProperties>();
        foreach (var split in new SplitPlan(_recipe).Present)
        {
            var documents = split == 0 && !TrainOrder.IsIdentity(_recipe, budgets)
                ? new TrainOrder(folder, plan, encoded, tokenizer, _bytesPerToken, options.ScratchFolder).ReadAsync(budgets, cancellationToken)
                : InSourceOrderAsync(split, encoded, cancellationToken);
            written.Add(await writer.WriteAsync(SplitPlan.Names[split], documents.Select(d => d.ToBatch()), batch => progress.AddStep(batch.DocumentTokens.Sum()), cancellationToken));
        }

        var card = await new CardWriting(folder, plan, selection, options.ScratchFolder).MakeAsync(tokenizerName, tokenizer, read, written, cancellationToken);
        await directory.WriteTextAsync(DataCard.JsonFile, card.ToJson(), cancellationToken);
        await directory.WriteTextAsync(DataCard.MarkdownFile, card.ToMarkdown(), cancellationToken);
        var properties = new DatasetProperties
        {
            Format = DatasetProperties.CurrentFormat,
            Tokenizer = tokenizerName,
            TokenizerHash = tokenizer.Hash,
            VocabularySize = tokenizer.VocabularySize,
            DataType = _bytesPerToken == sizeof(ushort) ? "uint16" : "uint32",
            DocumentCount = selection.Documents,
            DuplicateCount = selection.Duplicates,
            NearDuplicateCount = selection.NearDuplicates,
            SkippedCount = card.Skipped.Records,
            SourceByteCount = plan.EndBytes[selection.UnitCount - 1],
            Labels = selection.Labels,
            Splits = written,
            Mixture = _recipe.Mixture.Count == 0 ? null : [.. plan.Parts.Select((p, i) => new PartProperties(p.Label, partTokens[i], budgets[i].Tokens))],
            Spec = folder.Job.Spec,
            Fingerprint = folder.Job.Fingerprint,
        };
        if (lease is not null && !await lease.ConfirmAsync(cancellationToken))
        {
            throw new OperationCanceledException("Another process makes the dataset.");
        }

        await directory.CommitAsync(properties.ToJson(), default, cancellationToken);
        return properties;
    }

    private async IAsyncEnumerable<EncodedDocuments> InSourceOrderAsync(
        int split, IReadOnlyList<EncodeResult> encoded, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        for (var unit = 0; unit < encoded.Count; unit++)
        {
            if (encoded[unit].Splits[split].Documents == 0)
            {
                continue;
            }

            await foreach (var documents in UnitEncoding.ReadAsync(folder, unit, split, _bytesPerToken, cancellationToken))
            {
                yield return documents;
            }
        }
    }
}
