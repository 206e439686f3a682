using LlmPipeline.Fakes;

namespace LlmPipeline.Text.Tests.Tokenizers;

public sealed class CharacterTokenizerTests
{
    [Fact]
    public void TinyShakespeareHasItsPublished65CharactersAndTheSpecialTokens()
    {
        var text = File.ReadAllText(TestData.PathOf("tinyshakespeare/input.txt"));
        var tokenizer = CharacterTokenizer.Create([text]);
        var ids = tokenizer.Encode(text);
        Assert.Equal((65 + 2, 1, 0), (tokenizer.VocabularySize, CharacterTokenizer.UnknownId, tokenizer.EndOfTextId));
        Assert.Equal(1_115_394, ids.Length);
        Assert.Equal((2, 66), (ids.Min(), ids.Max()));
        Assert.Equal(text, tokenizer.Decode(ids));
    }

    [Fact]
    public void EveryTextOfItsCharactersComesBackFromTheFileToo()
    {
        var tokenizer = CharacterTokenizer.Create(TestTexts.Edges);
        var read = TokenizerFile.Parse(tokenizer.ToJson());
        Assert.Equal(("character", tokenizer.VocabularySize, tokenizer.EndOfTextId, tokenizer.Hash), (read.Kind, read.VocabularySize, read.EndOfTextId, read.Hash));
        foreach (var text in TestTexts.Edges)
        {
            Assert.Equal(text, read.Decode(read.Encode(text)));
            Assert.Equal(tokenizer.Encode(text), read.Encode(text));
            Assert.Equal(text.EnumerateRunes().Count(), read.Encode(text).Length);
        }
    }

    [Fact]
    public void IdsFollowTheOrderOfCodePoints()
    {
        var tokenizer = CharacterTokenizer.Create("b\U0001F600a\uff41".EnumerateRunes());
        Assert.Equal([2, 3, 4, 5], tokenizer.Encode("ab\uff41\U0001F600"));
        Assert.Equal("\U0001F600"u8, tokenizer.BytesOf(5));
    }

    [Fact]
    public void OtherCharactersBecomeUnknownAndDecodeToNothing()
    {
        var tokenizer = CharacterTokenizer.Create(["ab"]);
        Assert.Equal([2, 1, 1, 3, 1], tokenizer.Encode("ax\U0001F600b\ud800"));
        Assert.Equal("ab", tokenizer.Decode([2, 1, 1, 3, 0]));
    }

    [Fact]
    public void ASpecialTokenInTheTextIsText()
    {
        var tokenizer = CharacterTokenizer.Create(["<|endoftext|><unk>"]);
        var ids = tokenizer.Encode("<|endoftext|><unk>");
        Assert.Equal(18, ids.Length);
        Assert.DoesNotContain(tokenizer.EndOfTextId, ids);
        Assert.DoesNotContain(CharacterTokenizer.UnknownId, ids);
    }
}
