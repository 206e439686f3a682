using System.Text;
using FsCheck;
using FsCheck.Fluent;
using LlmPipeline.Fakes;

namespace LlmPipeline.Text.Tests.Tokenizers;

/// <summary>Files that are damaged or mean harm: an InvalidDataException that names the file, never anything else.</summary>
public sealed class HostileTokenizerFilesTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string, string> Hostile => new()
    {
        { new string('[', 10_000) + new string(']', 10_000), "byte 0: the file is not a SentencePiece model" },
        { "{\"model\":" + string.Concat(Enumerable.Repeat("{\"a\":", 10_000)) + "1" + new string('}', 10_001), "not JSON: line 1, byte" },
        { "{\"model\":\n{\"type\":\"BPE\",\n\"vocab\":{\"a\":0,},\"merges\":[]}}", "not JSON: line 3, byte 16" },
        { Json("""{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"</s>":4294967296}}"""), "model.vocab[\"</s>\"] is 4294967296, and has to be a whole number" },
        { Json("""{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"</s>":4000000}}"""), "model.vocab[\"</s>\"] is 4000000, far beyond the 2 tokens" },
        { Json("""{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"</s>":1e400}}"""), "model.vocab[\"</s>\"] is 1e400" },
        { Json("""{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"</s>":0}}"""), "is 0, the id of \"u\"" },
        { Json("""{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"u":1,"</s>":2}}"""), "model.vocab[\"u\"] comes twice" },
        { Json("""{"type":"WordLevel","unk_token":"x","vocab":{"u":0,"</s>":1}}"""), "model.unk_token is \"x\", which model.vocab does not have" },
        { Json("""{"type":"WordLevel","unk_token":"u","vocab":{"u":0}}"""), "no token that ends a text" },
        { Json("""{"type":"WordLevel","unk_token":"u","vocab":{}}"""), "model.vocab is empty" },
        { Json("""{"type":"WordLevel","unk_token":"\ud800","vocab":{"u":0,"</s>":1}}"""), "model.unk_token is not Unicode" },
        { Json("""{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"\udc00":2,"</s>":1}}"""), "not Unicode" },
        { Json("""{"type":"WordLevel","unk_token":5,"vocab":{"u":0,"</s>":1}}"""), "model.unk_token has to be of type String" },
        { Json("""{"type":"BPE","vocab":{"a":0,"</s>":1},"merges":["a b"]}"""), "model.merges[0] joins \"a\" and \"b\", but model.vocab has no \"b\"" },
        { Json("""{"type":"BPE","vocab":{"a":0,"</s>":1},"merges":["a"]}"""), "model.merges[0] is not a pair" },
        { Json("""{"type":"BPE","vocab":{"a":0,"</s>":1},"merges":[["a",5]]}"""), "model.merges[0][1] has to be of type String" },
        { Json("""{"type":"BPE","vocab":{"a":0,"</s>":1},"merges":{}}"""), "model.merges has to be of type Array" },
        { Json("""{"type":"Unigram","unk_id":9,"vocab":[["a",0],["</s>",0]]}"""), "model.unk_id is 9" },
        { Json("""{"type":"Unigram","unk_id":0,"vocab":[["a"],["</s>",0]]}"""), "model.vocab[0] is not a pair" },
        { Json("""{"type":"Unigram","unk_id":0,"vocab":[["a",1e999],["</s>",0]]}"""), "model.vocab[0][1] is 1e999, which is not a finite number" },
        { Json("""{"type":"Unigram","unk_id":0,"vocab":[["a",0],["a",0],["</s>",0]]}"""), "comes twice" },
        { Json("""{"type":"Unigram","vocab":[["a",0],["</s>",0]]}"""), "model.unk_id is missing" },
        { Json("""{"type":"WordPiece","unk_token":"u","max_input_chars_per_word":0,"vocab":{"u":0,"</s>":1}}"""), "model.max_input_chars_per_word is 0" },
        { Json(WordLevel, "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"@\"}"), "normalizer.precompiled_charsmap is not base64" },
        { Json(WordLevel, "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}"), "normalizer.precompiled_charsmap is not a normalization table" },
        { Json(WordLevel, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"\"}]}"), "normalizer.normalizers[1].pattern.Regex is a regular expression" },
        { Json(WordLevel, "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), "pre_tokenizer.replacement has to be a single character" },
        { Json(WordLevel, "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Other\",\"invert\":false}"), "pre_tokenizer.behavior is \"Other\"" },
        { Json(WordLevel, "\"decoder\":{\"type\":\"CTC\"}"), "decoder.type is \"CTC\"" },
        { Json(WordLevel, "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":5,\"stop\":0}]}"), "decoder.decoders[1] strips more than one" },
        { Json(WordLevel, "\"post_processor\":{\"type\":\"Other\"}"), "post_processor.type is \"Other\"" },
        { Json(WordLevel, "\"added_tokens\":[{\"id\":1,\"content\":\"\"}]"), "added_tokens[0].content is empty" },
        { Json(WordLevel, "\"added_tokens\":[{\"id\":0,\"content\":\"x\"}]"), "added_tokens[0].id is 0, the id of \"u\"" },
        { "{}", "it is neither a tokenizer.json nor a GPT-2 vocabulary" },
        { "", "the file has no pieces" },
        { "\0\0\0\0", "byte 0" },
        { "#version: 0.2\na b\n", "no vocab.json or encoder.json beside them" },
        { "plain text", "no other tokenizer that is known" },
    };

    private static string WordLevel => """{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"</s>":1}}""";

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Hostile))]
    public void HostileFilesAreRefusedWithFileAndPlace(string text, string message)
    {
        var path = _folder.Write("hostile.json", text);
        var error = Assert.Throws<InvalidDataException>(() => TokenizerFile.Load(path)).Message;
        Assert.Contains("hostile.json", error, StringComparison.Ordinal);
        Assert.Contains(message, error, StringComparison.Ordinal);
    }

    [Fact]
    public void AByteOrderMarkAndCarriageReturnsAreNoHarm()
    {
        var json = Json(WordLevel, "\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"}").Replace(",", ",\r\n", StringComparison.Ordinal);
        var path = _folder.Write("bom.json", [0xEF, 0xBB, 0xBF, .. Encoding.UTF8.GetBytes(json)]);
        Assert.Equal([0, 0], TokenizerFile.Load(path).Encode("a b"));
        Assert.Equal(json, TokenizerFile.Load(path).ToJson());
    }

    [Fact]
    public void Gpt2FilesWithCarriageReturnsAreRead()
    {
        var tokenizer = TestTexts.TrainGpt2(300, "the the cat cat");
        var (vocabulary, merges) = Gpt2Parts(tokenizer);
        _folder.Write("gpt2/vocab.json", vocabulary);
        _folder.Write("gpt2/merges.txt", merges.Replace("\n", "\r\n", StringComparison.Ordinal));
        Assert.Equal(tokenizer.Encode("the cat"), TokenizerFile.Load(Path.Combine(_folder.Path, "gpt2")).Encode("the cat"));
        _folder.Write("gpt2/merges.txt", "#version: 0.2\nt h\nth\n");
        Assert.Contains("merges.txt: line 3 is \"th\"", Assert.Throws<InvalidDataException>(() => TokenizerFile.Load(Path.Combine(_folder.Path, "gpt2"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AHugeFileIsRefusedBeforeItIsRead()
    {
        var path = Path.Combine(_folder.Path, "huge.json");
        using (var stream = File.Create(path))
        {
            stream.SetLength(1L << 32); // sparse
        }

        var before = GC.GetTotalAllocatedBytes();
        Assert.Contains("has 4294967296 bytes", Assert.Throws<InvalidDataException>(() => TokenizerFile.Load(path)).Message, StringComparison.Ordinal);
        Assert.InRange(GC.GetTotalAllocatedBytes() - before, 0, 16 << 20);
    }

    [Fact]
    public void AFileOfMoreValuesThanAnyTokenizerHasIsRefused()
    {
        var path = _folder.Write("values.json", "{\"model\":[" + string.Concat(Enumerable.Repeat("0,", 6_100_000)) + "0]}");
        Assert.Contains("more than 6000000 values", Assert.Throws<InvalidDataException>(() => TokenizerFile.Load(path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("stories260k/tokenizer.bin")]
    [InlineData("botchan/test_model.model")]
    [InlineData("hf-tokenizer-json/tokenizer.json")]
    public void DamagedFilesAreRefusedOrRead(string file) => Damage(File.ReadAllBytes(Fakes.TestData.PathOf(file)), 120);

    [Theory]
    [InlineData("word")]
    [InlineData("wordpiece")]
    [InlineData("classic-bpe")]
    [InlineData("character")]
    [InlineData("bpe")]
    public void DamagedFilesOfEveryKindAreRefusedOrRead(string kind)
    {
        var options = new TokenizerOptions { Kind = kind, VocabularySize = 290 };
        var tokenizer = TokenizerTrainer.Train(TestTexts.Count(TokenizerTrainer.SplitterOf(options), "the cat sat on the mat, the end\n"), options);
        Damage(Encoding.UTF8.GetBytes(tokenizer.ToJson()), 250);
    }

    [Fact]
    public void ASlowPatternIsStopped()
    {
        var tokenizer = TokenizerFile.Parse(Json(WordLevel, "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a+)+$\"},\"behavior\":\"Isolated\",\"invert\":false}"));
        Assert.Contains("took too long", Assert.Throws<InvalidDataException>(() => tokenizer.Encode(new string('a', 60) + "b")).Message, StringComparison.Ordinal);
    }

    // Truncated, a byte changed, a part doubled: it is refused, or what was read works.
    private void Damage(byte[] file, int tries)
    {
        var path = Path.Combine(_folder.Path, "damaged");
        var property = Prop.ForAll(
            Gen.Choose(0, 2).Zip(Gen.Choose(0, file.Length - 1)).Zip(Gen.Choose(0, 255)).ToArbitrary(),
            damage =>
            {
                var ((kind, at), value) = damage;
                byte[] damaged = kind switch
                {
                    0 => file[..at],
                    1 => [.. file[..at], (byte)value, .. file[(at + 1)..]],
                    _ => [.. file[..at], .. file[Math.Max(0, at - value)..]],
                };
                File.WriteAllBytes(path, damaged);
                try
                {
                    var tokenizer = TokenizerFile.Load(path);
                    tokenizer.Decode(tokenizer.Encode("The cat, \u00e9\U0001F600"));
                }
                catch (InvalidDataException exception)
                {
                    Assert.Contains("damaged", exception.Message, StringComparison.Ordinal);
                }
            });
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(tries), property);
    }

    private static string Json(string model, string? part = null) => $"{{\"version\":\"1.0\",{(part is null ? "" : part + ",")}\"model\":{model}}}";

    private static (string Vocabulary, string Merges) Gpt2Parts(BpeTokenizer tokenizer)
    {
        using var json = System.Text.Json.JsonDocument.Parse(tokenizer.ToJson());
        var model = json.RootElement.GetProperty("model");
        return (model.GetProperty("vocab").GetRawText(), "#version: 0.2\n" + string.Concat(model.GetProperty("merges").EnumerateArray().Select(m => m.GetString() + "\n")));
    }
}
