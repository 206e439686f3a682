using System.Text.Json;
using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Reports;
using LlmPipeline.Text.Shards;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>Makes the data card of a job of what its units counted, and looks for leaks between the splits as they are.</summary>
internal sealed class CardWriting(JobFolder folder, UnitPlan plan, Selection selection, string scratchFolder)
{
    private readonly DatasetRecipe _recipe = folder.Job.Recipe;

    public async Task<DataCard> MakeAsync(
        string tokenizerName, ITokenizer tokenizer, IReadOnlyList<ReadResult> read, IReadOnlyList<SplitProperties> splits, CancellationToken cancellationToken)
    {
        var cleaning = new CleaningCounts();
        var languages = new LanguageCounts();
        var skipped = SkippedRecords.None;
        foreach (var unit in read)
        {
            cleaning.Merge(unit.Cleaning);
            languages.Merge(unit.Languages);
            skipped = skipped.Add(unit.Skipped);
        }

        var duplicates = _recipe.Cleaning.Duplicates;
        return new DataCard
        {
            Dataset = folder.Job.Target,
            Tokenizer = tokenizerName,
            VocabularySize = tokenizer.VocabularySize,
            Sources = [.. plan.Parts.Select((p, i) => new CardSource(p.Label, p.Files, p.Bytes, selection.PartDocuments[i], _recipe.Parts[i].Weight))],
            Splits = [.. splits.Select(s => new CardSplit(s.Split, s.DocumentCount, s.TokenCount, s.ByteCount, s.CharacterCount))],
            Languages = languages,
            Cleaning = cleaning,
            Duplicates = new CardDuplicates(
                selection.Duplicates, selection.NearDuplicates, duplicates.Exact, JsonNamingPolicy.SnakeCaseLower.ConvertName(duplicates.Near.ToString()), duplicates.Threshold),
            Skipped = new CardSkipped(skipped.Count, skipped.Reasons.Count > 0 ? skipped.Reasons[0] : null),
            Leaks = await LeaksAsync(cancellationToken),
        };
    }

    private async Task<CardLeaks> LeaksAsync(CancellationToken cancellationToken)
    {
        using var check = new LeakCheck(_recipe.Cleaning.Duplicates, scratchFolder);
        var ends = new SplitPlan(_recipe).TailEnds(selection);
        for (var unit = 0; unit < selection.UnitCount; unit++)
        {
            await using var verdicts = new BufferedStream(await folder.OpenReadAsync(Selection.UnitFile(unit), cancellationToken));
            var position = selection.FirstCharacters[unit];
            await foreach (var entry in DocumentFiles.ReadEntriesAsync(folder, unit, cancellationToken))
            {
                var split = verdicts.ReadByte();
                if (split == Selection.Dropped)
                {
                    continue;
                }

                // A document that a tail cuts counts where it begins.
                check.Add(entry.Signature, ends is null ? (byte)split : (byte)Array.FindIndex(ends, end => position < end));
                position += entry.Characters;
            }
        }

        var overlap = await UnitEncoding.ReadOverlapAsync(folder, selection, cancellationToken);
        var shares = new SortedDictionary<string, NgramShare>(StringComparer.Ordinal);
        foreach (var split in new SplitPlan(_recipe).Present.Where(s => s > 0))
        {
            shares[SplitPlan.Names[split]] = overlap.Share(split);
        }

        return new CardLeaks(await Task.Run(() => check.Complete(cancellationToken), cancellationToken), shares);
    }
}
