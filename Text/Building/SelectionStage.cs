using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>Decides which documents the dataset has: drops duplicates, divides, and ends at the limit. One process does it, from the indexes alone.</summary>
internal sealed class SelectionStage(JobFolder folder, UnitPlan plan, string scratchFolder)
{
    public const string File = "select.json";
    private const int BufferBytes = 1 << 16;
    private const int MaxLabels = 1 << 16;

    private readonly DatasetRecipe _recipe = folder.Job.Recipe;
    private readonly SplitPlan _splits = new(folder.Job.Recipe);

    /// <summary>
    /// Selects among the documents of the first units, unless that was done already. With a limit that they do not reach, the selection is
    /// not final: more units have to be read.
    /// </summary>
    public async Task<Selection> SelectAsync(int units, CancellationToken cancellationToken)
    {
        if (await folder.TryReadAsync(File, BuildJson.Default.Selection, cancellationToken) is { } present && present.UnitCount >= units)
        {
            return present;
        }

        var verdicts = await CompareAsync(units, cancellationToken);
        var selection = await DecideAsync(units, verdicts, cancellationToken);
        await folder.WriteAsync(File, selection, BuildJson.Default.Selection, cancellationToken);
        return selection;
    }

    private async Task<DuplicateVerdicts> CompareAsync(int units, CancellationToken cancellationToken)
    {
        using var finder = new DuplicateFinder(_recipe.Cleaning.Duplicates, scratchFolder);
        for (var unit = 0; unit < units; unit++)
        {
            await foreach (var entry in DocumentFiles.ReadEntriesAsync(folder, unit, cancellationToken))
            {
                finder.Add(entry.Signature);
            }
        }

        return await Task.Run(() => finder.Complete(cancellationToken), cancellationToken);
    }

    private async Task<Selection> DecideAsync(int units, DuplicateVerdicts verdicts, CancellationToken cancellationToken)
    {
        var splits = new SizeCounts[] { new(0, 0, 0), new(0, 0, 0), new(0, 0, 0) };
        var parts = new long[plan.Parts.Count];
        var partDocuments = new long[plan.Parts.Count];
        var splitOf = new byte[verdicts.Count];
        var firstCharacters = new long[units];
        CutDocument? cut = null;
        long characters = 0, room = _recipe.MaxBytes == 0 ? long.MaxValue : _recipe.MaxBytes;
        long exact = 0, near = 0;
        var document = 0;
        var labels = new SortedSet<string>(StringComparer.Ordinal);
        for (var unit = 0; unit < units; unit++)
        {
            firstCharacters[unit] = characters;
            await using var writer = await folder.CreateAsync(Selection.UnitFile(unit), cancellationToken);
            await using var bytes = new BufferedStream(writer.Stream, BufferBytes);
            var inUnit = 0;
            await foreach (var entry in DocumentFiles.ReadEntriesAsync(folder, unit, cancellationToken))
            {
                var verdict = verdicts[document];
                var split = splitOf[document] = verdict.First == document ? _splits.SplitOf(entry.Signature) : splitOf[verdict.First];
                document++;

                // What lies behind the limit is as if it had not been read.
                exact += room > 0 && verdict.Kind == DuplicateKind.Exact ? 1 : 0;
                near += room > 0 && verdict.Kind == DuplicateKind.Near ? 1 : 0;
                if (!verdict.Keep || room == 0)
                {
                    bytes.WriteByte(Selection.Dropped);
                    inUnit++;
                    continue;
                }

                var kept = entry;
                if (entry.Bytes > room)
                {
                    kept = await CutAsync(unit, inUnit, entry, (int)room, cancellationToken);
                    cut = new CutDocument(unit, inUnit, kept.Bytes);
                    room = kept.Bytes;
                }

                room -= kept.Bytes;
                bytes.WriteByte(kept.Bytes == 0 ? Selection.Dropped : split);
                inUnit++;
                if (kept.Bytes > 0)
                {
                    _ = entry.Label is { } label && labels.Add(label);
                    characters += kept.Characters;
                    splits[split] = splits[split].Add(kept.Bytes, kept.Characters);
                    parts[plan.PartOf(unit)] += split == 0 ? kept.Bytes : 0;
                    partDocuments[plan.PartOf(unit)]++;
                }
            }

            await bytes.FlushAsync(cancellationToken);
            await writer.CommitAsync(cancellationToken);
        }

        return new Selection
        {
            UnitCount = units,
            FirstCharacters = firstCharacters,
            Splits = splits,
            PartBytes = parts,
            PartDocuments = partDocuments,
            Duplicates = exact,
            NearDuplicates = near,
            Cut = cut,
            Labels = Labels(labels),
            UnitLabels = _recipe.LabelParts ? [.. Enumerable.Range(0, units).Select(plan.PartOf)] : null,
        };
    }

    private IReadOnlyList<string>? Labels(SortedSet<string> found)
    {
        if (_recipe.LabelField is null)
        {
            return _recipe.LabelParts ? [.. plan.Parts.Select(p => p.Label)] : null;
        }

        return found.Count is > 1 and <= MaxLabels ? [.. found] : throw new TextSourceException(TextSourceProblem.Invalid,
            $"The documents have {found.Count} different labels in '{_recipe.LabelField}'{(found.Count == 1 ? $", '{found.Min}'" : "")}; 2 to {MaxLabels} can be told apart. Name the field that holds the class in label_field.");
    }

    // A whole number of characters that fits.
    private async Task<DocumentEntry> CutAsync(int unit, int document, DocumentEntry entry, int room, CancellationToken cancellationToken)
    {
        var skip = 0L;
        var index = 0;
        await foreach (var earlier in DocumentFiles.ReadEntriesAsync(folder, unit, cancellationToken))
        {
            if (index++ == document)
            {
                break;
            }

            skip += earlier.Bytes;
        }

        await using var text = await DocumentFiles.OpenTextAsync(folder, unit, cancellationToken);
        var bytes = new byte[Math.Max(room, BufferBytes)];
        while (skip > 0)
        {
            var step = (int)Math.Min(skip, bytes.Length);
            await text.ReadExactlyAsync(bytes.AsMemory(0, step), cancellationToken);
            skip -= step;
        }

        await text.ReadExactlyAsync(bytes.AsMemory(0, room), cancellationToken);
        var length = Utf8Text.WholeCharacters(bytes.AsSpan(0, room));
        return entry with { Bytes = length, Characters = Utf8Text.CountCharacters(bytes.AsSpan(0, length)) };
    }
}
