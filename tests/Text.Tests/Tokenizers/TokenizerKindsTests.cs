using System.Text;
using FsCheck;
using FsCheck.Fluent;

namespace LlmPipeline.Text.Tests.Tokenizers;

/// <summary>What all kinds promise.</summary>
public sealed class TokenizerKindsTests
{
    private const string Sample = "The cat sat on the mat. The cats sat, didn't they?\n\n\"Yes\", said 42 cats \u2014 caf\u00e9s too!\n\tthe end ";

    public static TheoryData<string> Kinds => [.. TokenizerTrainer.Kinds];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void KnownTextComesBack(string kind)
    {
        var tokenizer = Train(kind, Sample);
        Assert.Equal(kind, tokenizer.Kind);
        var text = kind == "classic-bpe" ? "The cat sat on the mat. The cats sat, didn't they?\n\n\"Yes\", said 42 cats" : Sample;
        Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text)));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void StreamedPiecesOfAnyIdsJoinToTheWhole(string kind)
    {
        var tokenizer = Train(kind, Sample);
        var random = new Random(5);
        for (var n = 0; n < 500; n++)
        {
            int[] ids = [.. Enumerable.Range(0, random.Next(1, 12)).Select(_ => random.Next(tokenizer.VocabularySize))];
            var decoder = new StreamingDecoder(tokenizer);
            Assert.Equal(tokenizer.Decode(ids), string.Concat([.. ids.Select(decoder.Append), decoder.Finish()]));
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void AnotherOrderAndOtherPiecesOfTextGiveTheSameFile(string kind)
    {
        var options = Options(kind);
        string[] lines = [.. Sample.Split('\n').Select(l => l + "\n")];
        var whole = TestTexts.Count(TokenizerTrainer.SplitterOf(options), lines);
        var merged = new WordCounts();
        foreach (var line in lines.Reverse())
        {
            merged.Merge(TestTexts.Count(TokenizerTrainer.SplitterOf(options), line));
        }

        Assert.Equal(TokenizerTrainer.Train(whole, options).ToJson(), TokenizerTrainer.Train(merged, options).ToJson());
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void TheFileReadAgainGivesTheSameTokens(string kind)
    {
        var tokenizer = Train(kind, Sample);
        var again = TokenizerFile.Parse(tokenizer.ToJson());
        Assert.Equal(tokenizer.Hash, again.Hash);
        Assert.Equal(kind, again.Kind);
        foreach (var text in TestTexts.Edges.Append(Sample))
        {
            Assert.Equal(tokenizer.Encode(text), again.Encode(text));
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void TextCannotMakeSpecialTokens(string kind)
    {
        var options = Options(kind) with { SpecialTokens = ["<|sep|>", "cat"] };
        var tokenizer = Train(options, Sample + "<|endoftext|> <unk> [UNK] <|sep|> cat");
        Assert.Contains("cat", tokenizer.SpecialIds.Keys);
        var ids = tokenizer.Encode("<|endoftext|> <unk> [UNK] <|sep|> cat");
        var special = tokenizer.SpecialIds.Values.Where(id => id != tokenizer.UnknownId).ToHashSet();
        Assert.DoesNotContain(ids, special.Contains);
        var allowed = new List<int>();
        tokenizer.EncodeWithSpecialTokens("a<|sep|>", allowed);
        Assert.Equal(tokenizer.SpecialIds["<|sep|>"], allowed[^1]);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void PropertiesHoldForEveryText(string kind)
    {
        var tokenizer = Train(kind, Sample);
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(150), Prop.ForAll<string>(value =>
        {
            var text = Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(value ?? ""));
            var utf8 = Encoding.UTF8.GetBytes(text);
            var ids = tokenizer.Encode(text);
            var tokens = new List<TokenSpan>();
            tokenizer.EncodeWithOffsets(utf8, tokens);
            Assert.Equal(ids, tokens.Select(t => t.Id));
            var last = 0;
            foreach (var token in tokens)
            {
                Assert.InRange(token.Start, last, utf8.Length);
                Assert.InRange(token.End, token.Start, utf8.Length);
                last = token.End;
            }

            var cut = tokenizer.LastSafeCut(utf8);
            var (left, right) = (new List<int>(), new List<int>());
            tokenizer.Encode(utf8.AsSpan(0, cut), left);
            tokenizer.Encode(utf8.AsSpan(cut), right);
            Assert.Equal(ids, left.Concat(right));
        }));
    }

    [Theory]
    [InlineData("word")]
    [InlineData("grapheme")]
    [InlineData("wordpiece")]
    [InlineData("character")]
    public void WhatIsNotUnknownComesBackByItsPlaces(string kind)
    {
        var tokenizer = Train(kind, Sample);
        const string Text = "The dog sat \u4e2d on the mats.\nYes \U0001F600!";
        var utf8 = Encoding.UTF8.GetBytes(Text);
        var tokens = new List<TokenSpan>();
        tokenizer.EncodeWithOffsets(utf8, tokens);
        Assert.Equal(Text, string.Concat(tokens.Select(t => Encoding.UTF8.GetString(utf8.AsSpan(t.Start..t.End)))));
        foreach (var token in tokens.Where(t => t.Id != tokenizer.UnknownId))
        {
            Assert.Equal(Encoding.UTF8.GetString(utf8.AsSpan(token.Start..token.End)), Encoding.UTF8.GetString(tokenizer.BytesOf(token.Id)));
        }
    }

    [Fact]
    public void RareWordsAndThoseBeyondTheVocabularyAreUnknown()
    {
        const string Text = "a a a b b c";
        var frequent = Train(new TokenizerOptions { Kind = "word", VocabularySize = 0, MinFrequency = 2 }, Text);
        Assert.Equal([false, false, true], frequent.Encode(" a b c").Select(id => id == frequent.UnknownId));
        var small = Train(new TokenizerOptions { Kind = "word", VocabularySize = 4 }, Text);
        Assert.Equal(4, small.VocabularySize);
        Assert.Equal([" a", " b"], [.. Enumerable.Range(2, 2).Select(id => Encoding.UTF8.GetString(small.BytesOf(id)))]);
    }

    [Fact]
    public void WordPieceTakesTheLongestPieceFirst()
    {
        var tokenizer = TokenizerFile.Parse(Train("wordpiece", "unaffable un aff able unaff una").ToJson());
        var pieces = tokenizer.Encode("unaffable").Select(id => Encoding.UTF8.GetString(tokenizer.BytesOf(id))).ToList();
        Assert.Equal("unaffable", string.Concat(pieces));
        Assert.Equal([tokenizer.UnknownId!.Value], tokenizer.Encode("unaffz"));
        Assert.Equal([tokenizer.UnknownId!.Value], tokenizer.Encode("u" + new string('a', 100)));
        Assert.DoesNotContain(tokenizer.UnknownId!.Value, tokenizer.Encode("u" + new string('a', 99)));
    }

    [Fact]
    public void EveryLanguageComesBackInGraphemesAndCharacters()
    {
        var texts = TestTexts.Languages.Select(l => l.Text).ToList();
        foreach (var kind in new[] { "grapheme", "character" })
        {
            var tokenizer = Train(new TokenizerOptions { Kind = kind, VocabularySize = 0 }, [.. texts]);
            Assert.All(texts, t => Assert.Equal(t, tokenizer.Decode(tokenizer.Encode(t))));
        }
    }

    [Theory]
    [InlineData("wordpiece", 2)]
    [InlineData("classic-bpe", 20)]
    [InlineData("word", 2)]
    public void AVocabularyThatIsTooSmallIsRefused(string kind, int size) =>
        Assert.Contains($"vocabulary of {size}", Assert.Throws<InvalidDataException>(() => Train(new TokenizerOptions { Kind = kind, VocabularySize = size }, Sample)).Message, StringComparison.Ordinal);

    [Fact]
    public void AnUnknownKindIsRefused() =>
        Assert.Contains("\"bytes\" is not known: use bpe, word", Assert.Throws<InvalidDataException>(() => TokenizerTrainer.SplitterOf(new TokenizerOptions { Kind = "bytes" })).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("wordpiece")]
    [InlineData("classic-bpe")]
    public void TrainingCanBeCancelled(string kind)
    {
        var options = Options(kind);
        var words = TestTexts.Count(TokenizerTrainer.SplitterOf(options), Sample);
        Assert.ThrowsAny<OperationCanceledException>(() => TokenizerTrainer.Train(words, options, null, new CancellationToken(canceled: true)));
    }

    private static TokenizerOptions Options(string kind) => new() { Kind = kind, VocabularySize = kind == "bpe" ? 300 : 130 };

    private static ITokenizer Train(string kind, params string[] texts) => Train(Options(kind), texts);

    private static ITokenizer Train(TokenizerOptions options, params string[] texts) => TokenizerTrainer.Train(TestTexts.Count(TokenizerTrainer.SplitterOf(options), texts), options);
}
