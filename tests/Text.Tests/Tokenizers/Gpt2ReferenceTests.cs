using System.Text;
using System.Text.Json;
using LlmPipeline.Fakes;

namespace LlmPipeline.Text.Tests.Tokenizers;

/// <summary>GPT-2's published vocabulary, against encodings and token counts of other implementations.</summary>
public sealed class Gpt2ReferenceTests
{
    private static readonly Lazy<ITokenizer> Gpt2 = new(() =>
    {
        var vocabulary = JsonSerializer.Deserialize<Dictionary<string, int>>(File.ReadAllText(TestData.PathOf("gpt2-bpe/encoder.json")))!;
        var merges = File.ReadLines(TestData.PathOf("gpt2-bpe/vocab.bpe")).Skip(1).Where(l => l.Length > 0).Select(l => l.Split(' ')).Select(p => (p[0], p[1]));
        return TokenizerFile.Parse(BpeTokenizer.Create(vocabulary, merges).ToJson());
    });

    [Fact]
    public void ReferenceTextsGetTheReferenceIds()
    {
        var count = 0;
        foreach (var line in File.ReadLines(TestData.PathOf("gpt2-bpe/reference-encodings.jsonl")))
        {
            using var json = JsonDocument.Parse(line);
            var text = json.RootElement.GetProperty("text").GetString()!;
            int[] ids = [.. json.RootElement.GetProperty("ids").EnumerateArray().Select(i => i.GetInt32())];
            Assert.Equal(ids, Gpt2.Value.Encode(text));
            Assert.Equal(text, Gpt2.Value.Decode(ids));
            count++;
        }

        Assert.Equal(170, count);
    }

    [Theory]
    [InlineData("wikitext-2/test.txt", 295_877)]
    [InlineData("botchan/botchan.txt", 69_372)]
    public void FilesGetThePublishedNumberOfTokens(string file, int count) =>
        Assert.Equal(count, Gpt2.Value.Encode(Encoding.UTF8.GetString(File.ReadAllBytes(TestData.PathOf(file))).Replace("\r\n", "\n", StringComparison.Ordinal)).Length);

    [Fact]
    public void TinyShakespeareGetsThePublishedNumbersOfTokens()
    {
        var text = File.ReadAllText(TestData.PathOf("tinyshakespeare/input.txt"));
        Assert.Equal(301_966, Gpt2.Value.Encode(text[..1_003_854]).Length);
        Assert.Equal(36_059, Gpt2.Value.Encode(text[1_003_854..]).Length);
    }

    [Fact]
    public void TheEndOfTextIsTheLastIdAndIsNeverMadeFromText()
    {
        Assert.Equal(50_256, Gpt2.Value.EndOfTextId);
        Assert.DoesNotContain(50_256, Gpt2.Value.Encode("a<|endoftext|>b"));
    }
}
