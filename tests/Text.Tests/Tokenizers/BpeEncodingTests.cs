using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FsCheck;
using FsCheck.Fluent;

namespace LlmPipeline.Text.Tests.Tokenizers;

/// <summary>What byte-level BPE promises with every split pattern.</summary>
public sealed class BpeEncodingTests
{
    private static readonly Config Checks = Config.QuickThrowOnFailure.WithMaxTest(1500);

    // Not before a test asks: without the texts it is the tests that are skipped.
    private static readonly Lazy<Dictionary<string, BpeTokenizer>> Trained = new(() => Patterns.ToDictionary(row => row.Data, row => BpeTrainer.Train(
        TestTexts.Count(WordSplitter.Create(row.Data), TestTexts.Languages.Take(20).Select(l => l.Text)),
        new BpeOptions(3000) { Splitter = WordSplitter.Create(row.Data), SpecialTokens = ["<|user|>", "<|user|>x"] })));

    private static Dictionary<string, BpeTokenizer> Tokenizers => Trained.Value;

    public static TheoryData<string> Patterns => ["default", "gpt2", "gpt4", "[a-z]+|\\s"];

    [Theory]
    [MemberData(nameof(Patterns))]
    public void EveryTextComesBackAndHasNoSpecialTokens(string pattern)
    {
        var tokenizer = Tokenizers[pattern];
        Prop.ForAll(WordSplitterTests.Texts, text =>
        {
            var ids = tokenizer.Encode(text);
            return tokenizer.Decode(ids) == Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text)) && ids.All(id => id > 2);
        }).Check(Checks);
        Assert.All(TestTexts.Edges.Concat(["<|user|>", "<|user|>x<|endoftext|>"]), text => Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text))));
    }

    [Theory]
    [MemberData(nameof(Patterns))]
    public void OffsetsCoverTheSourceWithoutGapsAndNameItsBytes(string pattern)
    {
        var tokenizer = Tokenizers[pattern];
        Prop.ForAll(WordSplitterTests.Texts, text =>
        {
            var utf8 = Encoding.UTF8.GetBytes(text);
            var tokens = new List<TokenSpan>();
            tokenizer.EncodeWithOffsets(utf8, tokens);
            var ends = tokens.Select(t => t.End).ToList();
            return tokens.Select(t => t.Id).SequenceEqual(tokenizer.Encode(text))
                && tokens.Select(t => t.Start).SequenceEqual(ends.Prepend(0).Take(tokens.Count))
                && (ends.Count == 0 ? utf8.Length == 0 : ends[^1] == utf8.Length)
                && tokens.All(t => tokenizer.BytesOf(t.Id).SequenceEqual(utf8.AsSpan(t.Start, t.End - t.Start)));
        }).Check(Checks);
    }

    [Theory]
    [MemberData(nameof(Patterns))]
    public void ThePatternComesBackFromTheFile(string pattern)
    {
        var tokenizer = Tokenizers[pattern];
        var read = Assert.IsType<BpeTokenizer>(TokenizerFile.Parse(tokenizer.ToJson()));
        Assert.Equal((pattern, tokenizer.Hash), (read.Pattern, read.Hash));
        Assert.Equal(new Dictionary<string, int> { ["<|endoftext|>"] = 0, ["<|user|>"] = 1, ["<|user|>x"] = 2 }, read.SpecialIds);
        Assert.All(TestTexts.Languages.Take(10), l => Assert.Equal(tokenizer.Encode(l.Text), read.Encode(l.Text)));
    }

    [Fact]
    public void PatternsAreWrittenAsOtherImplementationsReadThem()
    {
        var gpt2 = JsonNode.Parse(Tokenizers["gpt2"].ToJson())!["pre_tokenizer"]!;
        Assert.Equal("""{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}""", gpt2.ToJsonString());
        var parts = JsonNode.Parse(Tokenizers["gpt4"].ToJson())!["pre_tokenizer"]!;
        Assert.Equal("Sequence", (string)parts["type"]!);
        Assert.Equal(("Split", "Isolated", false), ((string)parts["pretokenizers"]![0]!["type"]!, (string)parts["pretokenizers"]![0]!["behavior"]!, (bool)parts["pretokenizers"]![0]!["invert"]!));
        Assert.Equal(WordSplitter.Gpt4.Pattern, (string)parts["pretokenizers"]![0]!["pattern"]!["Regex"]!);
        Assert.Equal(("ByteLevel", false), ((string)parts["pretokenizers"]![1]!["type"]!, (bool)parts["pretokenizers"]![1]!["use_regex"]!));
    }

    [Theory]
    [InlineData("default")]
    [InlineData("gpt2")]
    [InlineData("gpt4")]
    public void AnotherImplementationGivesTheSameIdsForEveryPattern(string pattern)
    {
        var tokenizer = Tokenizers[pattern];
        var model = JsonNode.Parse(tokenizer.ToJson())!["model"]!;
        var other = Microsoft.ML.Tokenizers.BpeTokenizer.Create(new Microsoft.ML.Tokenizers.BpeOptions(model["vocab"]!.AsObject().ToDictionary(t => t.Key, t => (int)t.Value!))
        {
            Merges = [.. model["merges"]!.AsArray().Select(m => (string)m!)],
            ByteLevel = true,
            PreTokenizer = new Microsoft.ML.Tokenizers.RegexPreTokenizer(new Regex(WordSplitter.Create(pattern).Pattern, RegexOptions.CultureInvariant), null),
        });
        Assert.All(TestTexts.Languages.Where(l => !l.Text.Any(char.IsSurrogate)), l => Assert.Equal(tokenizer.Encode(l.Text), other.EncodeToIds(l.Text)));
    }

    [Fact]
    public void InvalidUtf8IsReplacedAndRefusedWhereOffsetsAreAskedFor()
    {
        byte[] invalid = [(byte)'a', 0xE4, 0xB8, (byte)'b', 0xFF];
        var ids = new List<int>();
        Tokenizers["default"].Encode(invalid, ids);
        Assert.Equal("a\ufffdb\ufffd", Tokenizers["default"].Decode(ids.ToArray()));
        var error = Assert.Throws<ArgumentException>(() => Tokenizers["default"].EncodeWithOffsets(invalid, []));
        Assert.Contains("invalid byte 0xE4 at offset 1", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void SpecialTokensAreMadeOnlyWhereACallerAllowsThem()
    {
        var tokenizer = Tokenizers["default"];
        Assert.Equal([1, .. tokenizer.Encode("hi"), 2, 0, .. tokenizer.Encode(" x")], With("<|user|>hi<|user|>x<|endoftext|> x", null));
        Assert.Equal([1, .. tokenizer.Encode("x<|endoftext|>")], With("<|user|>x<|endoftext|>", ["<|user|>"]));
        Assert.Equal(tokenizer.Encode("<|user|>"), With("<|user|>", []));
        Assert.Empty(With("", null));
        var error = Assert.Throws<ArgumentException>(() => With("a", ["<|system|>"]));
        Assert.Contains("'<|system|>' is not a special token", error.Message, StringComparison.Ordinal);

        int[] With(string text, string[]? allowed)
        {
            var ids = new List<int>();
            tokenizer.EncodeWithSpecialTokens(text, ids, allowed);
            return [.. ids];
        }
    }

    [Theory]
    [InlineData("<|endoftext|>")]
    [InlineData("")]
    [InlineData("<|a|>,<|a|>")]
    [InlineData("a")]
    public void SpecialTokensThatCannotBeAreRefused(string tokens) => Assert.Throws<InvalidDataException>(
        () => BpeTrainer.Train(new WordCounts(), new BpeOptions(300) { SpecialTokens = tokens.Split(',') }));

    [Fact]
    public void TextNeverTakesTheNameOfASpecialToken()
    {
        var tokenizer = BpeTrainer.Train(TestTexts.Count(WordSplitter.Default, "abc abc abc"), new BpeOptions(300) { SpecialTokens = ["abc"] });
        Assert.Equal(1, tokenizer.SpecialIds["abc"]);
        Assert.DoesNotContain(1, tokenizer.Encode("abc abc"));
        Assert.Equal("abc abc", TokenizerFile.Parse(tokenizer.ToJson()).Decode(tokenizer.Encode("abc abc")));
    }

    [Fact]
    public void MoreWordsThanAreRememberedChangeNothing()
    {
        // Fresh tokenizers remember nothing; this one forgets and replaces again and again.
        var tokenizer = Tokenizers["default"];
        var random = new Random(5);
        for (var round = 0; round < 4; round++)
        {
            var words = Enumerable.Range(0, 60_000).Select(_ => " " + new string([.. Enumerable.Range(0, random.Next(1, random.Next(2, 60))).Select(_ => (char)random.Next('a', 'f'))])).ToList();
            var ids = new List<int>();
            tokenizer.Encode(string.Concat(words), ids);
            Assert.Equal(string.Concat(words), tokenizer.Decode(ids.ToArray()));
            foreach (var word in words.Take(40))
            {
                Assert.Equal(ReferenceBpe.Encode(tokenizer, word), tokenizer.Encode(word));
            }
        }
    }

    [Fact]
    public void AWordOfManyMegabytesIsEncodedInParts()
    {
        var text = string.Concat(Enumerable.Repeat("\u4eba\u4eba\u751f", 600_000));
        var tokenizer = Tokenizers["default"];
        Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text)));
    }
}
