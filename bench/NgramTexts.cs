using LlmPipeline.Text;

namespace LlmPipeline.Bench;

/// <summary>The texts of the n-gram bench as ids; 0 ends a document.</summary>
/// <param name="Train">What is counted.</param>
/// <param name="Measured">What is predicted, by name.</param>
/// <param name="VocabularySize">Number of ids.</param>
/// <param name="First">Position of the first prediction.</param>
internal sealed record NgramTexts(TokenSplit Train, IReadOnlyList<(string Name, TokenSplit Split)> Measured, int VocabularySize, int First)
{
    private const string EndOfLine = "</s>";
    private const string Unknown = "<unk>";
    private const int RareBelow = 3;
    private static readonly string[] Files = ["train", "valid", "test"];

    /// <summary>Reads a text from the folder of reference data.</summary>
    public static NgramTexts Read(string data, string text) => text switch
    {
        "wikitext-2 words" => Words(Path.Combine(data, "wikitext-2"), keepsEmptyLines: true, marksRare: false),
        "warandpeace words" => Words(Path.Combine(data, "warandpeace"), keepsEmptyLines: false, marksRare: true),
        "warandpeace characters" => Characters([.. Files.Select(f => (f, File.ReadAllText(Path.Combine(data, "warandpeace", f + ".txt"))))]),
        "tinyshakespeare characters" => Characters(Cut(File.ReadAllText(Path.Combine(data, "tinyshakespeare", "input.txt")))),
        _ => throw new ArgumentException($"There is no text '{text}'.", nameof(text)),
    };

    private static (string, string)[] Cut(string text) => [("train", text[..(text.Length * 9 / 10)]), ("valid", text[(text.Length * 9 / 10)..])];

    private static NgramTexts Characters((string Name, string Text)[] parts)
    {
        var ids = new Dictionary<int, int>();
        var splits = parts.Select(part => (part.Name, (TokenSplit)new Ids([.. part.Text.EnumerateRunes().Select(rune => IdOf(ids, rune.Value, 1))]))).ToArray();
        return new NgramTexts(splits[0].Item2, splits[1..], ids.Count + 1, 1);
    }

    private static NgramTexts Words(string folder, bool keepsEmptyLines, bool marksRare)
    {
        var lines = Files.Select(file => (Name: file, Words: File.ReadLines(Path.Combine(folder, file + ".txt"))
            .Select(line => line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))
            .Where(words => keepsEmptyLines || words.Length > 0)
            .SelectMany(words => words.Append(EndOfLine)).ToArray())).ToArray();
        var counts = lines[0].Words.CountBy(word => word).ToDictionary();
        var ids = new Dictionary<string, int> { [EndOfLine] = 0 };
        var splits = lines.Select(part => (part.Name, (TokenSplit)new Ids([.. part.Words
            .Select(word => IdOf(ids, marksRare && counts.GetValueOrDefault(word) < RareBelow ? Unknown : word, 0))]))).ToArray();
        return new NgramTexts(splits[0].Item2, splits[1..], ids.Count, 0);
    }

    private static int IdOf<T>(Dictionary<T, int> ids, T unit, int first) where T : notnull =>
        ids.TryGetValue(unit, out var id) ? id : ids[unit] = ids.Count + first;

    private sealed class Ids(int[] ids) : TokenSplit
    {
        public override long TokenCount => ids.Length;

        public override long ByteCount => 0;

        public override long DocumentCount => 1;

        public override void Read(long position, Span<int> destination) => ids.AsSpan((int)position, destination.Length).CopyTo(destination);
    }
}
