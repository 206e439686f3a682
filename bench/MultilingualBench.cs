using System.Globalization;
using System.Text;
using System.Text.Json;
using LlmPipeline.Text;
using LlmPipeline.Text.Building;

namespace LlmPipeline.Bench;

/// <summary>Tokens that languages take for the same text, relative to English, with one balanced vocabulary of 32k, beside GPT-2's.</summary>
internal static class MultilingualBench
{
    private const int VocabularySize = 32_768;
    private const int Folds = 5;
    private const double Goal = 2.5;
    private const double TibetanGoal = 2.8;

    public static async Task<int> RunAsync()
    {
        var data = Environment.GetEnvironmentVariable("LLMPIPELINE_TEST_DATA") is { Length: > 0 } folder
            ? folder : throw new InvalidOperationException("Set LLMPIPELINE_TEST_DATA to the folder that holds udhr/ and gpt2-bpe/.");
        var languages = Directory.EnumerateFiles(Path.Combine(data, "udhr"), "*.txt").Order(StringComparer.Ordinal)
            .Select(f => new Language(Path.GetFileNameWithoutExtension(f), [.. File.ReadLines(f).Where(l => l.Length > 0).Select(l => Encoding.UTF8.GetBytes(l + "\n"))]))
            .Where(l => l.Name != "chr").ToList();
        var tokens = new long[languages.Count];
        var lastFold = new double[languages.Count];
        for (var fold = 0; fold < Folds; fold++)
        {
            var parts = languages.Select(l => l.Count((_, line) => line % Folds != fold)).ToList();
            var weights = TokenizerTraining.Weights([.. parts.Select(p => p.TotalBytes)], balance: 0);
            var words = new WordCounts();
            for (var l = 0; l < parts.Count; l++)
            {
                words.Merge(parts[l], weights[l]);
            }

            var tokenizer = BpeTrainer.Train(words, new BpeOptions(VocabularySize));
            for (var l = 0; l < languages.Count; l++)
            {
                var held = languages[l].Tokens(tokenizer, line => line % Folds == fold);
                tokens[l] += held;
                lastFold[l] = held / languages[l].Share(line => line % Folds == fold);
            }
        }

        var gpt2 = ReadGpt2(Path.Combine(data, "gpt2-bpe"));
        var gpt2Tokens = languages.Select(l => l.Tokens(gpt2, _ => true)).ToList();
        var english = languages.FindIndex(l => l.Name == "eng");
        var rows = languages.Select((l, i) => new Row(
            l.Name, tokens[i], (double)tokens[i] / tokens[english], lastFold[i] / lastFold[english], (double)gpt2Tokens[i] / gpt2Tokens[english])).OrderByDescending(r => r.Ratio).ToList();
        var worst = rows.Where(r => r.Name != "bod").MaxBy(r => Math.Max(r.Ratio, r.LastFold))!;
        var tibetan = rows.Single(r => r.Name == "bod");
        var last = string.Create(CultureInfo.InvariantCulture,
            $"multilingual: at most {Math.Max(worst.Ratio, worst.LastFold):F2} times English ({worst.Name}), Tibetan {Math.Max(tibetan.Ratio, tibetan.LastFold):F2} (goal {Goal:F1}, Tibetan {TibetanGoal:F1})");
        var table = new StringBuilder("| language | tokens | relative to English | by the last fifth alone | GPT-2's vocabulary |\n| --- | ---: | ---: | ---: | ---: |\n");
        foreach (var row in rows)
        {
            table.AppendLine(CultureInfo.InvariantCulture, $"| {row.Name} | {row.Tokens:N0} | {row.Ratio:F2} | {row.LastFold:F2} | {row.Gpt2:F2} |");
        }

        await Machine.PublishAsync("multilingual", $"""
            # One vocabulary for {languages.Count} languages

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- multilingual")}
            - Text: the Universal Declaration of Human Rights in {languages.Count} translations, {languages.Sum(l => l.Bytes):N0} bytes of UTF-8. Left out: chr (Cherokee), of which there are 262 bytes, a heading.

            Byte-level BPE of {VocabularySize:N0} tokens with the default split pattern, trained on four fifths of the lines and measured on the rest. All languages count equally (`balance: 0`). Translations are not parallel line by line, so every fifth of the lines is held out once: five vocabularies, and the tokens of a language are those of its whole text, each line encoded with the vocabulary that has not seen it. Beside it the same from the last fifth alone (every fifth line), as tokens over its share of the language's bytes; both have to meet the goal. GPT-2 took {gpt2Tokens[english]:N0} tokens for English, ours {tokens[english]:N0}.

            {table}
            {last}
            """);
        return Math.Max(worst.Ratio, worst.LastFold) <= Goal && Math.Max(tibetan.Ratio, tibetan.LastFold) <= TibetanGoal ? 0 : 1;
    }

    private static BpeTokenizer ReadGpt2(string folder) => BpeTokenizer.Create(
        JsonSerializer.Deserialize<Dictionary<string, int>>(File.ReadAllText(Path.Combine(folder, "encoder.json")))!,
        File.ReadLines(Path.Combine(folder, "vocab.bpe")).Skip(1).Where(l => l.Length > 0).Select(l => l.Split(' ')).Select(p => (p[0], p[1])));

    private sealed record Row(string Name, long Tokens, double Ratio, double LastFold, double Gpt2);

    private sealed record Language(string Name, byte[][] Lines)
    {
        public long Bytes => Lines.Sum(l => (long)l.Length);

        public WordCounts Count(Func<byte[], int, bool> chosen)
        {
            var counts = new WordCounts();
            foreach (var line in Lines.Where(chosen))
            {
                counts.Add(line, WordSplitter.Default);
            }

            return counts;
        }

        public long Tokens(BpeTokenizer tokenizer, Func<int, bool> chosen)
        {
            var ids = new List<int>();
            foreach (var line in Lines.Where((_, i) => chosen(i)))
            {
                tokenizer.Encode(line, ids);
            }

            return ids.Count;
        }

        public double Share(Func<int, bool> chosen) => (double)Lines.Where((_, i) => chosen(i)).Sum(l => (long)l.Length) / Bytes;
    }
}
