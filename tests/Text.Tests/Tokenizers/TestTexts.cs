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
}
