using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>A document, or the part of one that lies in a split.</summary>
/// <param name="Utf8">Its text.</param>
/// <param name="Characters">Code points.</param>
/// <param name="Split">Number of the split.</param>
/// <param name="Ends">Whether the document ends here, and an end-of-text id follows.</param>
/// <param name="Hash">Of the whole document.</param>
/// <param name="Label">Number of its class, whose id follows instead of the end of text; -1 for none.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct SelectedDocument(ReadOnlyMemory<byte> Utf8, int Characters, byte Split, bool Ends, ulong Hash, int Label = -1);

/// <summary>Documents that are worked on together.</summary>
internal sealed record DocumentBatch(IReadOnlyList<SelectedDocument> Documents, int Bytes);

/// <summary>Reads the selected documents of a unit, in order.</summary>
internal sealed class SelectedDocuments(JobFolder folder, Selection selection)
{
    private const int BatchBytes = 256 << 10;

    private readonly Dictionary<string, int> _labels = (selection.Labels ?? []).Select((label, number) => (label, number)).ToDictionary(l => l.label, l => l.number, StringComparer.Ordinal);
    private readonly long[]? _ends = new SplitPlan(folder.Job.Recipe).TailEnds(selection);

    /// <summary>Batches of a bounded size, or one big document.</summary>
    public async IAsyncEnumerable<DocumentBatch> ReadAsync(int unit, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await using var text = await DocumentFiles.OpenTextAsync(folder, unit, cancellationToken);
        await using var verdicts = new BufferedStream(await folder.OpenReadAsync(Selection.UnitFile(unit), cancellationToken));
        var batch = new List<SelectedDocument>();
        var batchBytes = 0;
        var position = selection.FirstCharacters[unit];
        var document = -1;
        await foreach (var entry in DocumentFiles.ReadEntriesAsync(folder, unit, cancellationToken))
        {
            document++;
            var split = verdicts.ReadByte();
            if (split == Selection.Dropped)
            {
                Skip(text, entry.Bytes);
                continue;
            }

            var utf8 = GC.AllocateUninitializedArray<byte>(entry.Bytes);
            text.ReadExactly(utf8);
            var selected = new SelectedDocument(utf8, entry.Characters, (byte)split, true, (ulong)entry.Signature.Exact,
                selection.UnitLabels?[unit] ?? (entry.Label is { } label ? _labels[label] : -1));
            if (selection.Cut is { } cut && cut.Unit == unit && cut.Document == document)
            {
                selected = selected with { Utf8 = utf8.AsMemory(0, cut.Bytes), Characters = Utf8Text.CountCharacters(utf8.AsSpan(0, cut.Bytes)) };
            }

            if (_ends is null)
            {
                batch.Add(selected);
            }
            else
            {
                Divide(selected, position, batch);
                position += selected.Characters;
            }

            batchBytes += selected.Utf8.Length;
            if (batchBytes >= BatchBytes)
            {
                yield return new DocumentBatch([.. batch], batchBytes);
                batch.Clear();
                batchBytes = 0;
            }
        }

        if (batch.Count > 0)
        {
            yield return new DocumentBatch([.. batch], batchBytes);
        }
    }

    // The parts of a document that lie in the splits of a tail.
    private void Divide(SelectedDocument document, long position, List<SelectedDocument> parts)
    {
        var taken = 0;
        var takenBytes = 0;
        for (byte split = 0; taken < document.Characters; split++)
        {
            var end = (int)Math.Clamp(_ends![split] - position, taken, document.Characters);
            if (end == taken)
            {
                continue;
            }

            var rest = document.Utf8[takenBytes..];
            var length = end == document.Characters ? rest.Length : Utf8Text.BytesOfCharacters(rest.Span, end - taken);
            parts.Add(document with { Utf8 = rest[..length], Characters = end - taken, Split = split, Ends = end == document.Characters });
            takenBytes += length;
            taken = end;
        }
    }

    private static void Skip(Stream stream, int bytes)
    {
        Span<byte> buffer = stackalloc byte[4096];
        while (bytes > 0)
        {
            var step = Math.Min(bytes, buffer.Length);
            stream.ReadExactly(buffer[..step]);
            bytes -= step;
        }
    }
}
