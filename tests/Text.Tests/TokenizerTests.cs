using System.Text.Json;
using LlmPipeline.Fakes;

namespace LlmPipeline.Text.Tests;

public sealed class TokenizerTests
{
    private static readonly string[] Samples =
    [
        "", " ", "a", "Hello, world!", "it's they're I'll 'S", "  two\n\n\tblanks ", "naïve café – 日本語 ", "👩‍👩‍👧 emoji 🎉🎉", "<|endoftext|>", "١٢٣ 42½", new string('-', 5000),
        "नमस्ते दुनिया", "a\u00a0b\u2003c\r\n", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    ];

    private static BpeTokenizer Trained(int size = 400) => BpeTrainer.Train(Enumerable.Repeat("the cat sat on the mat, they're naïve; 日本語 the end\n", 50), size);

    [Fact]
    public void DecodingGivesEveryEncodedTextBack()
    {
        var tokenizer = Trained();
        Assert.All(Samples, text => Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text))));
    }

    [Fact]
    public void TextCannotInjectSpecialTokens()
    {
        var bpe = Trained();
        var character = CharacterTokenizer.Create("<|endoftext|>".EnumerateRunes());
        Assert.DoesNotContain(bpe.EndOfTextId, bpe.Encode("a<|endoftext|>b"));
        Assert.DoesNotContain(character.EndOfTextId, character.Encode("<|endoftext|>"));
    }

    [Fact]
    public void EncodingIsGpt2s()
    {
        var folder = TestData.PathOf("gpt2-bpe");
        var tokenizer = Gpt2(folder);
        var lines = File.ReadAllLines(Path.Combine(folder, "reference-encodings.jsonl"));
        foreach (var line in lines)
        {
            using var reference = JsonDocument.Parse(line);
            Assert.Equal(reference.RootElement.GetProperty("ids").EnumerateArray().Select(i => i.GetInt32()), tokenizer.Encode(reference.RootElement.GetProperty("text").GetString()!));
        }

        Assert.Equal(301_966 + 36_059, Halves(File.ReadAllText(TestData.PathOf("tinyshakespeare/input.txt"))).Sum(t => tokenizer.Encode(t).Length));

        static string[] Halves(string text) => [text[..(text.Length * 9 / 10)], text[(text.Length * 9 / 10)..]];
    }

    [Fact]
    public void TheFileReadBackIsTheSameTokenizer()
    {
        foreach (ITokenizer tokenizer in new ITokenizer[] { Trained(), CharacterTokenizer.Create("hello wörld 🎉".EnumerateRunes()) })
        {
            var read = TokenizerFile.Parse(tokenizer.ToJson());
            Assert.Equal(tokenizer.Hash, read.Hash);
            Assert.Equal(tokenizer.Kind, read.Kind);
            Assert.All(Samples, text => Assert.Equal(tokenizer.Encode(text), read.Encode(text)));
        }
    }

    [Fact]
    public void TrainingDoesNotDependOnTheOrderOfDocuments()
    {
        var documents = Enumerable.Range(0, 200).Select(i => $"document {i} of many, the {i % 7}th; they're all {(i % 3 == 0 ? "ähnlich" : "alike")}\n").ToArray();
        Assert.Equal(BpeTrainer.Train(documents, 500).Hash, BpeTrainer.Train(documents.Reverse(), 500).Hash);
    }

    [Fact]
    public void LongAndShortPiecesMergeAlike()
    {
        var tokenizer = BpeTrainer.Train(Enumerable.Repeat("aaaa aaaaaaaa abab ababab", 10), 280);
        for (var length = 1; length < 130; length++)
        {
            var text = string.Concat(Enumerable.Range(0, length).Select(i => i % 11 == 3 ? 'b' : 'a'));
            Assert.Equal(Reference(tokenizer, text), tokenizer.Encode(text));
        }
    }

    [Fact]
    public void AStreamGivesWholeCharactersOnly()
    {
        var tokenizer = Trained(257);
        var decoder = new StreamingDecoder(tokenizer);
        var pieces = tokenizer.Encode("日🎉").Select(decoder.Append).ToArray();
        Assert.Equal(["", "", "日", "", "", "", "🎉"], pieces);
        Assert.Equal("", decoder.Finish());
        decoder.Append(tokenizer.Encode("日")[0]);
        Assert.Equal("\uFFFD", decoder.Finish());
    }

    [Fact]
    public void AnUnknownCharacterHasAnIdOfItsOwn()
    {
        var tokenizer = CharacterTokenizer.Create("abc".EnumerateRunes());
        Assert.Equal([2, CharacterTokenizer.UnknownId, 4, CharacterTokenizer.UnknownId], tokenizer.Encode("axc🎉"));
        Assert.Equal(5, tokenizer.VocabularySize);
    }

    [Theory]
    [InlineData("{", "not JSON")]
    [InlineData("{}", "model")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":5},"merges":[]}}""", "'a'")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"<|endoftext|>":0,"a":1},"merges":[]}}""", "byte 0x")]
    [InlineData("""{"model":{"type":"Unigram","vocab":{"a":0}}}""", "Unigram")]
    [InlineData("""{"model":{"type":"WordLevel","vocab":{"<|endoftext|>":0,"<unk>":1,"bb":2}}}""", "entry 2")]
    public void AFileThatIsNoTokenizerIsRefusedAndThePlaceNamed(string json, string expected) =>
        Assert.Contains(expected, Assert.Throws<InvalidDataException>(() => TokenizerFile.Parse(json)).Message, StringComparison.Ordinal);

    private static BpeTokenizer Gpt2(string folder)
    {
        using var encoder = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "encoder.json")));
        var ids = encoder.RootElement.EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetInt32(), StringComparer.Ordinal);
        var tokens = new byte[ids.Count][];
        foreach (var (text, id) in ids)
        {
            tokens[id] = text == SpecialTokens.EndOfText ? [] : ByteAlphabet.TryToBytes(text)!;
        }

        var merges = File.ReadLines(Path.Combine(folder, "vocab.bpe")).Skip(1).Where(l => l.Length > 0).Select(l => l.Split(' ')).Select(p => (ids[p[0]], ids[p[1]]));
        return new BpeTokenizer(tokens, [.. merges], ids[SpecialTokens.EndOfText]);
    }

    /// <summary>The definition, step by step: join the leftmost pair of the earliest merge, until there is none.</summary>
    private static List<int> Reference(BpeTokenizer tokenizer, string word)
    {
        var ranks = tokenizer.Merges.Select((m, rank) => (m, rank)).ToDictionary(p => p.m, p => p.rank);
        var symbols = word.Select(c => Enumerable.Range(0, tokenizer.VocabularySize).First(id => tokenizer.BytesOf(id).SequenceEqual([(byte)c]))).ToList();
        while (true)
        {
            var best = Enumerable.Range(0, symbols.Count - 1).Where(i => ranks.ContainsKey((symbols[i], symbols[i + 1]))).OrderBy(i => ranks[(symbols[i], symbols[i + 1])]).ThenBy(i => i).FirstOrDefault(-1);
            if (best < 0)
            {
                return symbols;
            }

            byte[] joined = [.. tokenizer.BytesOf(symbols[best]), .. tokenizer.BytesOf(symbols[best + 1])];
            symbols[best] = Enumerable.Range(0, tokenizer.VocabularySize).First(id => tokenizer.BytesOf(id).SequenceEqual(joined));
            symbols.RemoveAt(best + 1);
        }
    }
}
