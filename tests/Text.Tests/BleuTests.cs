using System.Text;
using LlmPipeline.Fakes;

namespace LlmPipeline.Text.Tests;

public sealed class BleuTests
{
    [Theory]
    [InlineData("FBK.4870", 26.331621, 26.887207, 21.139961, 60.243928)]
    [InlineData("LIUM-NMT.4900", 26.595805, 27.152955, 21.609768, 62.023044)]
    [InlineData("LMU-nmt-reranked.4934", 27.106981, 27.896588, 21.958820, 62.601409)]
    [InlineData("PROMT-Rule-based.4735", 16.608607, 16.956395, 13.135519, 54.531996)]
    [InlineData("online-A.0", 20.796506, 22.389249, 16.015340, 58.403073)]
    [InlineData("online-F.0", 15.451736, 15.891896, 11.709393, 54.562176)]
    public void ScoresOfWmt17AreSacreBleus(string system, double mteval13a, double lowercase, double none, double character)
    {
        var hypotheses = Segments($"wmt17-en-de-bleu/{system}.de");
        var references = Segments("wmt17-en-de-bleu/reference.de");
        Assert.Equal(mteval13a, Bleu.Corpus(hypotheses, references).Score, 1e-6);
        Assert.Equal(lowercase, Bleu.Corpus(hypotheses, references, lowercase: true).Score, 1e-6);
        Assert.Equal(none, Bleu.Corpus(hypotheses, references, BleuTokenizer.None).Score, 1e-6);
        Assert.Equal(character, Bleu.Corpus(hypotheses, references, BleuTokenizer.Character).Score, 1e-6);
    }

    [Fact]
    public void PrecisionsAndLengthsAreSacreBleus()
    {
        var score = Bleu.Corpus(Segments("wmt17-en-de-bleu/FBK.4870.de"), Segments("wmt17-en-de-bleu/reference.de"));
        Assert.Equal([59.2531, 32.3290, 19.8528, 12.6411], score.Precisions.Select(p => Math.Round(p, 4)));
        Assert.Equal((61450, 61287, 1.0), (score.HypothesisLength, score.ReferenceLength, score.BrevityPenalty));
    }

    [Theory]
    [InlineData(BleuTokenizer.Mteval13a, 48.530827)]
    [InlineData(BleuTokenizer.None, 49.1919566)]
    [InlineData(BleuTokenizer.International, 43.91623493)]
    public void SeveralReferencesAreSacreBleus(BleuTokenizer tokenizer, double expected)
    {
        string[] hypotheses = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."];
        string[][] references =
        [
            ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
            ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
        ];
        Assert.Equal(expected, Bleu.Corpus(hypotheses, references, tokenizer).Score, 1e-6);
    }

    // One file begins with U+FEFF, which is text there: no byte order mark is taken off.
    private static string[] Segments(string file) => Encoding.UTF8.GetString(File.ReadAllBytes(TestData.PathOf(file))).TrimEnd('\n').Split('\n');

    [Fact]
    public void SmallCasesAreSacreBleus()
    {
        Assert.Equal(22.3606797749979, Bleu.Corpus(["this is a fest"], [["this is a test"]], smoothing: BleuSmoothing.Floor, floor: 0.01).Score, 1e-9);
        Assert.Equal(0, Bleu.Corpus(["", ""], ["a b c d", "e f g h"]).Score);
        Assert.Equal(100, Bleu.Corpus(["the same text twice over"], ["the same text twice over"]).Score, 1e-9);
        Assert.Throws<ArgumentException>(() => Bleu.Corpus(["a"], ["a", "b"]));
    }
}
