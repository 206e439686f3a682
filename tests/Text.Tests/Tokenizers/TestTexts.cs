using System.Text;
using LlmPipeline.Fakes;

namespace LlmPipeline.Text.Tests.Tokenizers;

/// <summary>Texts that tokenizers are tried on.</summary>
internal static class TestTexts
{
    /// <summary>Texts at the edges of what a text can be.</summary>
    public static IReadOnlyList<string> Edges { get; } =
    [
        "", " ", "\n", "   \n\n  \t", "Hello, world!", "it's they're we've I'm I'll he'd 'S", "<|endoftext|>", "a<|endoftext|>b<unk>",
        "\0\u0001\u007f\u0080\u00a0\u00ad\u2028\ufeff\uffff\ufffe", "\U0001F600\U0001F468\u200D\U0001F469\u200D\U0001F467 \U0001F1EB\U0001F1F7", "e\u0301\u0327 \u1e69",
        "\u05e9\u05c1\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627", "\U00010348\U0010FFFF\U00020000", new string('a', 5000), string.Concat(Enumerable.Repeat("ab", 3000)), new string(' ', 300) + "x",
    ];

    /// <summary>The Universal Declaration of Human Rights in many languages, by file name.</summary>
    public static IReadOnlyList<(string Name, string Text)> Languages =>
        [.. Directory.EnumerateFiles(TestData.PathOf("udhr"), "*.txt").Order(StringComparer.Ordinal).Select(f => (Path.GetFileNameWithoutExtension(f), File.ReadAllText(f)))];

    /// <summary>Words of texts, each text counted on its own.</summary>
    public static WordCounts Count(IWordSplitter splitter, params IEnumerable<string> texts) => WordCounts.Count(texts.Select(t => (ReadOnlyMemory<byte>)Encoding.UTF8.GetBytes(t)), splitter, 2);

    /// <summary>A byte-level tokenizer of texts, with GPT-2's pattern.</summary>
    public static BpeTokenizer TrainGpt2(int vocabularySize, params IEnumerable<string> texts) =>
        BpeTrainer.Train(Count(WordSplitter.Gpt2, texts), new BpeOptions(vocabularySize) { Splitter = WordSplitter.Gpt2 });

    /// <summary>The words of a text.</summary>
    public static List<string> Split(IWordSplitter splitter, string text)
    {
        var words = new Words([]);
        splitter.Split(Encoding.UTF8.GetBytes(text), ref words);
        return words.List;
    }

    private readonly record struct Words(List<string> List) : IWordSink
    {
        public void Add(ReadOnlySpan<byte> utf8, int start, int end) => List.Add(Encoding.UTF8.GetString(utf8[start..end]));
    }
}
