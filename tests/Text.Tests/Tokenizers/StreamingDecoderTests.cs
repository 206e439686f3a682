
namespace LlmPipeline.Text.Tests.Tokenizers;

public sealed class StreamingDecoderTests
{
    private static readonly BpeTokenizer Bytes = BpeTrainer.Train(new WordCounts(), new BpeOptions(257));

    [Fact]
    public void CharactersComeWhole()
    {
        var decoder = new StreamingDecoder(Bytes);
        Assert.Equal(["a", "", "\u00e9", "", "", "", "\U0001F600", ""], [.. Bytes.Encode("a\u00e9\U0001F600").Select(decoder.Append), decoder.Finish()]);
    }

    [Fact]
    public void AnUnfinishedCharacterBecomesTheReplacementCharacter()
    {
        var decoder = new StreamingDecoder(Bytes);
        Assert.Equal("", decoder.Append(Bytes.Encode("\u00e9")[0]));
        Assert.Equal("", decoder.Append(Bytes.EndOfTextId));
        Assert.Equal("\ufffd", decoder.Finish());
        Assert.Equal("", decoder.Finish());
    }

    [Fact]
    public void PiecesOfAnyIdsJoinToTheWhole()
    {
        var random = new Random(4);
        for (var n = 0; n < 2000; n++)
        {
            int[] ids = [.. Enumerable.Range(0, random.Next(1, 12)).Select(_ => random.Next(257))];
            var decoder = new StreamingDecoder(Bytes);
            Assert.Equal(Bytes.Decode(ids), string.Concat([.. ids.Select(decoder.Append), decoder.Finish()]));
        }
    }
}
