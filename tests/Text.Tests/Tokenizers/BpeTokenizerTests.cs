using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace LlmPipeline.Text.Tests.Tokenizers;

public sealed class BpeTokenizerTests
{
    private static readonly Lazy<BpeTokenizer> Multilingual = new(() => TestTexts.TrainGpt2(6000, TestTexts.Languages.Select(l => l.Text)));

    [Fact]
    public void EveryTextComesBack()
    {
        var tokenizer = TestTexts.TrainGpt2(300, "the quick brown fox jumps over the lazy dog, the end.");
        foreach (var text in TestTexts.Edges)
        {
            Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text)));
        }
    }

    [Fact]
    public void RandomTextsComeBackFromAMultilingualVocabulary()
    {
        var tokenizer = Multilingual.Value;
        var random = new Random(2);
        for (var n = 0; n < 500; n++)
        {
            var text = string.Concat(Enumerable.Range(0, random.Next(200)).Select(_ => RandomRune(random).ToString()));
            Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text)));
        }
    }

    [Fact]
    public void AnotherImplementationGivesTheSameIdsFromTheFile()
    {
        var tokenizer = Multilingual.Value;
        using var json = JsonDocument.Parse(tokenizer.ToJson());
        var model = json.RootElement.GetProperty("model");
        var vocabulary = model.GetProperty("vocab").EnumerateObject().ToDictionary(t => t.Name, t => t.Value.GetInt32());
        var other = Microsoft.ML.Tokenizers.BpeTokenizer.Create(new Microsoft.ML.Tokenizers.BpeOptions(vocabulary)
        {
            Merges = [.. model.GetProperty("merges").EnumerateArray().Select(m => m.GetString()!)],
            ByteLevel = true,
            PreTokenizer = new Microsoft.ML.Tokenizers.RegexPreTokenizer(new Regex(WordSplitter.Gpt2.Pattern, RegexOptions.CultureInvariant), null),
        });

        foreach (var (name, text) in TestTexts.Languages)
        {
            var ids = tokenizer.Encode(text);
            Assert.True(ids.AsSpan().SequenceEqual([.. other.EncodeToIds(text)]), name);
            Assert.Equal(text, tokenizer.Decode(ids));
        }
    }

    [Fact]
    public void ManyThreadsGetTheSameIds()
    {
        var tokenizer = TokenizerFile.Parse(Multilingual.Value.ToJson());
        var texts = TestTexts.Languages.Take(12).Select(l => l.Text).ToList();
        var expected = texts.Select(t => Multilingual.Value.Encode(t)).ToList();
        Parallel.For(0, 48, n => Assert.Equal(expected[n % texts.Count], tokenizer.Encode(texts[n % texts.Count])));
    }

    [Fact]
    public void LongWordsAreMergedAsShortOnesAreAndInReasonableTime()
    {
        var tokenizer = TestTexts.TrainGpt2(270, string.Concat(Enumerable.Repeat("aaaa abab baba aab ", 50)));
        var random = new Random(3);
        for (var n = 0; n < 200; n++)
        {
            var word = string.Concat(Enumerable.Range(0, random.Next(90, 400)).Select(_ => random.Next(4) == 0 ? 'b' : 'a'));
            Assert.Equal(ReferenceBpe.Encode(tokenizer, word), tokenizer.Encode(word));
        }

        var watch = System.Diagnostics.Stopwatch.StartNew();
        Assert.Equal(1 << 20, tokenizer.Decode(tokenizer.Encode(new string('a', 1 << 20))).Length);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"{watch.Elapsed}");
    }

    [Fact]
    public void ASpecialTokenInTheTextIsText()
    {
        var tokenizer = TestTexts.TrainGpt2(300, string.Concat(Enumerable.Repeat("<|endoftext|>", 100)));
        Assert.DoesNotContain(tokenizer.EndOfTextId, tokenizer.Encode("x<|endoftext|>"));
        Assert.Equal("x<|endoftext|>", tokenizer.Decode(tokenizer.Encode("x<|endoftext|>")));
        Assert.Equal("x", tokenizer.Decode([.. tokenizer.Encode("x"), tokenizer.EndOfTextId]));
    }

    [Fact]
    public void InvalidTextBecomesTheReplacementCharacter() => Assert.Equal("a\ufffdb", Multilingual.Value.Decode(Multilingual.Value.Encode("a\ud800b")));

    [Fact]
    public void AnIdOutsideTheVocabularyIsNamed()
    {
        var error = Assert.Throws<ArgumentOutOfRangeException>(() => Multilingual.Value.Decode([6000]));
        Assert.Contains("6000 is not an id", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TheFileComesBackWithTheSameIdsAndHash()
    {
        var read = TokenizerFile.Parse(Multilingual.Value.ToJson());
        Assert.Equal(("bpe", 6000, 0, Multilingual.Value.Hash), (read.Kind, read.VocabularySize, read.EndOfTextId, read.Hash));
        Assert.Equal(Multilingual.Value.ToJson(), read.ToJson());
        Assert.Matches("^[0-9a-f]{64}$", read.Hash);
        foreach (var (_, text) in TestTexts.Languages)
        {
            Assert.Equal(Multilingual.Value.Encode(text), read.Encode(text));
        }
    }

    private static Rune RandomRune(Random random)
    {
        while (true)
        {
            if (Rune.TryCreate(random.Next(random.Next(3) switch { 0 => 0x80, 1 => 0x3000, _ => 0x110000 }), out var rune))
            {
                return rune;
            }
        }
    }
}
