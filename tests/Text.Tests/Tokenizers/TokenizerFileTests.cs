using System.Text.Json.Nodes;

namespace LlmPipeline.Text.Tests.Tokenizers;

public sealed class TokenizerFileTests
{
    private static readonly string Bpe = Train();
    private static readonly string Character = CharacterTokenizer.Create(["abc"]).ToJson();

    public static TheoryData<string, string, string> Damages => new()
    {
        { "bpe", "model", "model is missing" },
        { "bpe", "model.vocab", "model.vocab is missing" },
        { "bpe", "model.merges", "model.merges is missing" },
        { "bpe", "model.type=\"Unigram\"", "model.vocab has to be of type Array" },
        { "bpe", "model.type=\"Other\"", "model.type is \"Other\": only BPE, WordPiece, WordLevel and Unigram" },
        { "bpe", "model.vocab.a=300", "model.vocab[\"a\"] is 300" },
        { "bpe", "model.vocab.a=-1", "model.vocab[\"a\"] is not an id" },
        { "bpe", "model.vocab.a=1.5", "model.vocab[\"a\"] is not an id" },
        { "bpe", "model.vocab.a=99999999999", "model.vocab[\"a\"] is not an id" },
        { "bpe", "model.vocab.a", "is 258: the 258 ids have to be 0 to 257, each once" },
        { "bpe", "model.vocab.\u4e2d=300", "is 300" },
        { "bpe", "model.merges=[\"a b\"]", "model.merges[0] joins \"a\" and \"b\", but model.vocab has no \"ab\"" },
        { "bpe", "model.merges=[\"t h\", 5]", "model.merges[1] is not a pair" },
        { "bpe", "model.merges=[\"t  h\"]", "model.merges[0] is not a pair" },
        { "bpe", "model.dropout=0.1", "model.dropout is set: encoding at random" },
        { "bpe", "normalizer={\"type\":\"Nmt\"}", "normalizer.type is \"Nmt\": only NFC" },
        { "bpe", "pre_tokenizer={\"type\":\"UnicodeScripts\"}", "pre_tokenizer.type is \"UnicodeScripts\": only ByteLevel" },
        { "bpe", "added_tokens=[3]", "added_tokens[0] has to be of type Object" },
        { "bpe", "added_tokens=[{\"id\":1,\"content\":\"x\",\"special\":false}]", "added_tokens[0].id is 1, the id of" },
        { "bpe", "added_tokens=[{\"id\":1,\"content\":\"<|endoftext|>\",\"special\":true}]", "has id 1 in added_tokens and 0 in model.vocab" },
        { "character", "model.vocab.a=7", "model.vocab[\"b\"] is 3: ids have to be used once" },
        { "character", "model.vocab.a=3", "is 3: ids have to be used once" },
        { "character", "model.vocab.zz=5", "model.vocab[\"zz\"] is not a single character" },
        { "character", "model.vocab.A=5", "is 5: ids have to follow the order" },
        { "character", "pre_tokenizer.pattern.Regex=\"(\"", "pre_tokenizer.pattern.Regex is a regular expression that .NET does not read" },
        { "character", "pre_tokenizer.pattern={}", "pre_tokenizer.pattern.Regex is missing" },
    };

    [Theory]
    [MemberData(nameof(Damages))]
    public void DamagedFilesAreRefusedWithThePlace(string kind, string damage, string message)
    {
        var error = Assert.Throws<InvalidDataException>(() => TokenizerFile.Parse(Damage(kind == "bpe" ? Bpe : Character, damage)));
        Assert.True(message.Split(" or ").Any(m => error.Message.Contains(m, StringComparison.Ordinal)), error.Message);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("{\"version\": \"1.0\",\n\"model\": 5 6}")]
    [InlineData("\0\0\0")]
    public void TextThatIsNotJsonIsRefusedWithLineAndByte(string text) =>
        Assert.Matches("not JSON: line [0-9]+, byte [0-9]+", Assert.Throws<InvalidDataException>(() => TokenizerFile.Parse(text)).Message);

    [Theory]
    [InlineData("[]")]
    [InlineData("null")]
    [InlineData("5")]
    [InlineData("{\"model\": [], \"added_tokens\": []}")]
    [InlineData("{\"model\": {\"type\": \"\\ud800\"}, \"added_tokens\": []}")]
    public void OtherJsonIsRefused(string text) => Assert.Throws<InvalidDataException>(() => TokenizerFile.Parse(text));

    [Fact]
    public void DeeplyNestedJsonIsRefused() => Assert.Throws<InvalidDataException>(() => TokenizerFile.Parse(new string('[', 100_000)));

    [Fact]
    public void ATokenThatComesTwiceIsRefused() => Assert.Contains(
        "model.vocab[\"b\"] comes twice",
        Assert.Throws<InvalidDataException>(() => TokenizerFile.Parse(Character.Replace("\"a\": 2", "\"b\": 2", StringComparison.Ordinal))).Message,
        StringComparison.Ordinal);

    [Fact]
    public void EveryTruncationIsRefused()
    {
        for (var length = 0; length < Character.Length - 2; length += 7)
        {
            Assert.Throws<InvalidDataException>(() => TokenizerFile.Parse(Character[..length]));
        }
    }

    [Fact]
    public void MergesAsPairsAreReadToo()
    {
        var file = JsonNode.Parse(Bpe)!;
        var merges = file["model"]!["merges"]!.AsArray();
        file["model"]!["merges"] = new JsonArray([.. merges.Select(m => new JsonArray([.. m!.GetValue<string>().Split(' ').Select(p => (JsonNode)p)]))]);
        Assert.Equal(TokenizerFile.Parse(Bpe).Encode("the then"), TokenizerFile.Parse(file.ToJsonString()).Encode("the then"));
    }

    private static string Train() => TestTexts.TrainGpt2(259, "the the the").ToJson();

    // "a.b" removes a property, "a.b=JSON" sets it.
    private static string Damage(string json, string damage)
    {
        var file = JsonNode.Parse(json)!;
        var parts = damage.Split('=', 2);
        var path = parts[0].Split('.');
        var parent = path[..^1].Aggregate(file, (node, name) => node[name]!).AsObject();
        if (parts.Length == 1)
        {
            parent.Remove(path[^1]);
        }
        else
        {
            parent[path[^1]] = JsonNode.Parse(parts[1]);
        }

        return file.ToJsonString();
    }
}
