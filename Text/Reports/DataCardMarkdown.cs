using System.Globalization;
using System.Text;

namespace LlmPipeline.Text.Reports;

/// <summary>Writes a data card as Markdown.</summary>
internal static class DataCardMarkdown
{
    public static string Write(DataCard card)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# Data card: {Cell(card.Dataset)}\n\nTokenizer {Cell(card.Tokenizer)}, {Number(card.VocabularySize)} ids.\n");
        Table(text, "Sizes", ["split", "documents", "tokens", "bytes", "characters", "bytes a token"], card.Splits.Select(s => new[]
        {
            s.Split, Number(s.Documents), Number(s.Tokens), Number(s.Bytes), Number(s.Characters), s.Tokens == 0 ? "" : ((double)s.Bytes / s.Tokens).ToString("F2", CultureInfo.InvariantCulture),
        }));
        var weighted = card.Sources.Any(s => s.Weight is not null);
        Table(text, "Sources", ["source", "files", "bytes", "documents", .. weighted ? ["weight"] : Array.Empty<string>()], card.Sources.Select(s => (string[])
        [
            s.Label, Number(s.Files), Number(s.Bytes), Number(s.Documents), .. weighted ? [s.Weight?.ToString("0.####", CultureInfo.InvariantCulture) ?? ""] : Array.Empty<string>(),
        ]));
        text.Append(card.Skipped.Records == 0
            ? "\nEvery record could be read.\n"
            : string.Create(CultureInfo.InvariantCulture, $"\n{Number(card.Skipped.Records)} records could not be read and were skipped. The first: {Cell(card.Skipped.First ?? "")}\n"));
        Languages(text, card);
        Cleaning(text, card);
        Duplicates(text, card);
        Leaks(text, card);
        return text.ToString();
    }

    private static void Languages(StringBuilder text, DataCard card)
    {
        var total = Math.Max(1, card.Languages.Languages.Values.Sum(l => l.Bytes));
        Table(text, "Languages", ["language and script", "documents", "bytes", "share"], card.Languages.Languages
            .OrderByDescending(l => l.Value.Bytes).ThenBy(l => l.Key, StringComparer.Ordinal)
            .Select(l => new[] { l.Key, Number(l.Value.Documents), Number(l.Value.Bytes), Percent((double)l.Value.Bytes / total) }));
        text.Append(CultureInfo.InvariantCulture, $"\nOf the documents that passed cleaning, by their first {LanguageDetector.SampleBytes} bytes: the script by its letters; the language by its script, or in Latin, Cyrillic, Arabic and Devanagari script by frequent words of {string.Join(", ", LanguageDetector.WordLanguages)}. `und`: not one of these, or too short to tell.\n");
    }

    private static void Cleaning(StringBuilder text, DataCard card)
    {
        Table(text, "Cleaning", ["step", "documents changed", "characters removed", "bytes removed"], card.Cleaning.Steps.Select(s => new[]
        {
            s.Key, Number(s.Value.DocumentsChanged), Number(s.Value.CharactersRemoved), Number(s.Value.BytesRemoved),
        }));
        text.Append(CultureInfo.InvariantCulture, $"\n{Number(card.Cleaning.Documents)} documents were cleaned, {Number(card.Cleaning.DocumentsKept)} passed the filters.\n");
        if (card.Cleaning.Dropped.Count > 0)
        {
            Table(text, "Left out by filters", ["reason", "documents"], card.Cleaning.Dropped.Select(d => new[] { d.Key, Number(d.Value) }));
        }

        if (card.Cleaning.PersonalData.Count > 0)
        {
            Table(text, "Personal data", ["kind", "found", "redacted"], card.Cleaning.PersonalData.Select(p => new[] { p.Key, Number(p.Value.Found), Number(p.Value.Redacted) }));
        }
    }

    private static void Duplicates(StringBuilder text, DataCard card)
    {
        var near = card.Duplicates.NearMode == "off"
            ? "Near-duplicates were not looked for."
            : string.Create(CultureInfo.InvariantCulture, $"{Number(card.Duplicates.Near)} more are near-duplicates of another (estimated Jaccard similarity of word 5-grams {card.Duplicates.Threshold:0.##} or more); they were {(card.Duplicates.NearMode == "remove" ? "left out" : "kept, each kind in one split")}.");
        text.Append(card.Duplicates.ExactRemoved
            ? $"\n## Duplicates\n\n{Number(card.Duplicates.Exact)} documents have the text of an earlier one and were left out. {near}\n"
            : $"\n## Duplicates\n\nDocuments with the text of an earlier one were kept. {near}\n");
    }

    private static void Leaks(StringBuilder text, DataCard card)
    {
        var leaks = card.Leaks.Documents;
        text.Append(CultureInfo.InvariantCulture, $"\n## Leak check\n\n{Number(leaks.ExactDuplicates)} documents have the text of one in another split");
        text.Append(leaks.NearDuplicates is { } near ? $"; {Number(near)} are similar to one in another split.\n" : ".\n");
        foreach (var (split, share) in card.Leaks.Ngrams)
        {
            var sample = share.SampledOneIn == 1 ? "all of them compared" : $"one in {Number(share.SampledOneIn)} compared";
            text.Append(CultureInfo.InvariantCulture, $"\n{Percent(share.Share)} of the different word 13-grams of {Cell(split)} occur in train ({Number(share.InTrain)} of {Number(share.Ngrams)}, {sample}).\n");
        }
    }

    private static void Table(StringBuilder text, string title, string[] header, IEnumerable<string[]> rows)
    {
        text.Append(CultureInfo.InvariantCulture, $"\n## {title}\n\n| {string.Join(" | ", header)} |\n| --- |{string.Concat(header.Skip(1).Select(_ => " ---: |"))}\n");
        foreach (var row in rows)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {string.Join(" | ", row.Select(Cell))} |\n");
        }
    }

    // What comes from file names and messages stays inside its cell.
    private static string Cell(string value) =>
        value.ReplaceLineEndings(" ").Replace("\\", "\\\\", StringComparison.Ordinal).Replace("|", "\\|", StringComparison.Ordinal).Replace("<", "&lt;", StringComparison.Ordinal);

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);

    private static string Percent(double share) => share.ToString("P1", CultureInfo.InvariantCulture);
}
