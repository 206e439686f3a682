using System.Text.Json.Nodes;
using LlmPipeline.Fakes;

namespace LlmPipeline.Text.Tests.Tokenizers;

/// <summary>The same files in Hugging Face tokenizers: what this project wrote, and what others may write.</summary>
public sealed class OtherImplementationTests : IDisposable
{
    private static readonly string[] Texts =
    [
        "Hello, world!", "The cat sat on the mat.\nThe end", "can't won't 3.14 1,000", "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m \u0130stanbul", "a  b   c\td", " leading", "trailing ", "x",
        "\u4f60\u597d world \u65e5\u672c\u8a9e", "\U0001F600 ok \U0001F468\u200D\U0001F469\u200D\U0001F467", "Hello [MASK] <tag> world", "<|endoft|>", "...!?", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "e\u0301 \u1e69 \ufb01",
    ];

    private readonly TemporaryFolder _folder = new();
    private readonly JsonArray _files = [];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task FilesOfEveryKindGiveTheSameTokensAndTexts()
    {
        foreach (var kind in TokenizerTrainer.Kinds)
        {
            var options = new TokenizerOptions { Kind = kind, VocabularySize = kind == "bpe" ? 400 : 250 };
            var tokenizer = TokenizerTrainer.Train(TestTexts.Count(TokenizerTrainer.SplitterOf(options), Texts.Where(t => !t.StartsWith('<'))), options);
            Add(kind, tokenizer);
        }

        await CompareAsync();
    }

    [Theory]
    [InlineData("default")]
    [InlineData("gpt2")]
    [InlineData("gpt4")]
    [InlineData("\\p{L}+|[^\\p{L}]")]
    public async Task FilesOfEverySplitPatternGiveTheSameTokensInEveryLanguage(string pattern)
    {
        string[] texts = [.. Texts, .. TestTexts.Languages.Select(l => l.Text[..Math.Min(2000, l.Text.Length)])];
        var splitter = WordSplitter.Create(pattern);
        Add("bpe", BpeTrainer.Train(TestTexts.Count(splitter, texts), new BpeOptions(3000) { Splitter = splitter }), texts: texts);
        await CompareAsync();
    }

    [Fact]
    public async Task FilesOfOtherFormatsGiveTheSameTokensWhenConverted()
    {
        Add("llama2c", TokenizerFile.Load(TestData.PathOf("stories260k/tokenizer.bin")));
        Add("botchan", TokenizerFile.Load(TestData.PathOf("botchan/test_model.model")), decodes: false); // they show unknown text
        Add("gpt2", TokenizerFile.Load(TestData.PathOf("gpt2-bpe")));
        Add("torchtitan", TokenizerFile.Load(TestData.PathOf("hf-tokenizer-json/tokenizer.json")));
        await CompareAsync();
    }

    [Fact]
    public async Task FilesOfOtherProjectsGiveTheSameTokens()
    {
        const string Bert = """{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}""";
        const string Cased = """{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":false}""";
        const string WordPiece = """{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[PAD]":0,"[UNK]":1,"[SEP]":2,"hello":3,"world":4,"the":5,"c":6,"##a":7,"##at":8,"##t":9,",":10,"!":11,".":12,"a":13,"b":14,"end":15,"s":16,"##afe":17,"'":18,"can":19,"3":20,"14":21,"##4":22,"1":23,"mat":24,"on":25,"Hello":26,"\u4f60":27}}""";
        AddJson("bert", Bert, """{"type":"BertPreTokenizer"}""", """{"type":"WordPiece","prefix":"##","cleanup":true}""", WordPiece, """[{"id":2,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}]""");
        AddJson("bert-cased", Cased, """{"type":"BertPreTokenizer"}""", """{"type":"WordPiece","prefix":"##","cleanup":false}""", WordPiece, "[]");
        AddJson("added", "null", """{"type":"BertPreTokenizer"}""", """{"type":"WordPiece","prefix":"##","cleanup":false}""", WordPiece,
            """[{"id":28,"content":"[MASK]","single_word":false,"lstrip":true,"rstrip":false,"normalized":false,"special":false},{"id":29,"content":"<tag>","single_word":false,"lstrip":false,"rstrip":true,"normalized":true,"special":false},{"id":30,"content":"cat","single_word":true,"lstrip":false,"rstrip":false,"normalized":false,"special":false}]""");
        foreach (var (name, split) in new[]
        {
            ("whitespace", """{"type":"Whitespace"}"""), ("whitespace-split", """{"type":"WhitespaceSplit"}"""),
            ("digits", """{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Digits","individual_digits":true}]}"""),
            ("digit-runs", """{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":false},{"type":"Punctuation","behavior":"Contiguous"}]}"""),
            ("punctuation-previous", """{"type":"Punctuation","behavior":"MergedWithPrevious"}"""), ("punctuation-next", """{"type":"Punctuation","behavior":"MergedWithNext"}"""),
            ("punctuation-removed", """{"type":"Punctuation","behavior":"Removed"}"""), ("split-string", """{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithNext","invert":false}"""),
            ("split-invert", """{"type":"Split","pattern":{"Regex":"\\w+|[^\\w\\s]"},"behavior":"Removed","invert":true}"""), ("delimiter", """{"type":"CharDelimiterSplit","delimiter":"a"}"""),
        })
        {
            AddJson(name, """{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Lowercase"}]}""", split, "null",
                """{"type":"WordLevel","unk_token":"<unk>","vocab":{"<unk>":0,"</s>":1,"hello":2,"world":3,",":4,"!":5,"the":6,"3":7,".":8,"14":9,"1":10,"0":11," world":12,"hello,":13," the":14,"can":15,"...!?":16,"a":17,"b":18,"t":19}}""", "[]");
        }

        const string Pieces = """["<unk>",0.0],["</s>",0.0],["\u2581",-2.0],["\u2581the",-3.0],["a",-3.1],["t",-3.2],["c",-3.3],["at",-3.4],["\u2581c",-3.5],["\u2581world",-4.0],["wor",-4.5],["ld",-4.6],["l",-5.0],["o",-5.1],["H",-6.0],["e",-5.0],["ll",-5.2],["!",-5.5],[",",-5.6]""";
        foreach (var scheme in new[] { "always", "first", "never" })
        {
            AddJson($"unigram-{scheme}", """{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Strip","strip_left":true,"strip_right":true},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}]}""",
                $$"""{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"{{scheme}}","split":true}""", $$"""{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"{{scheme}}","split":true}""",
                $$"""{"type":"Unigram","unk_id":0,"vocab":[{{Pieces}}],"byte_fallback":false}""", "[]", decodes: false);
        }

        var bytes = string.Join(',', Enumerable.Range(0, 256).Select(b => $"\"<0x{b:X2}>\":{b + 3}"));
        AddJson("llama", """{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},{"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]}""", "null",
            """{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}""",
            $$"""{"type":"BPE","dropout":null,"unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{"<unk>":0,"<s>":1,"</s>":2,{{bytes}},"\u2581":259,"t":260,"h":261,"e":262,"th":263,"the":264,"\u2581the":265,"a":266,"c":267,"at":268,"\u2581c":269,"\u2581cat":270},"merges":["t h","th e","a t","\u2581 c","\u2581 the","\u2581c at"]}""",
            """[{"id":0,"content":"<unk>","special":true},{"id":1,"content":"<s>","special":true},{"id":2,"content":"</s>","special":true}]""".Replace("\"special\":true", "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true", StringComparison.Ordinal));
        var alphabet = string.Join(',', Enumerable.Range(0, 256).Select(b => $"{JsonValue.Create(ByteAlphabet.Write([(byte)b])).ToJsonString()}:{b}"));
        AddJson("llama3", "null",
            """{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}""",
            """{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}""",
            $$"""{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":true,"vocab":{{{alphabet}},"<|end_of_text|>":256,"\u0120cat":257,"th":258,"Hello":259},"merges":["t h"]}""", "[]");
        await CompareAsync();
    }

    private void AddJson(string name, string normalizer, string preTokenizer, string decoder, string model, string added, bool decodes = true) => Add(name, TokenizerFile.Parse(
        $$"""{"version":"1.0","truncation":null,"padding":null,"added_tokens":{{added}},"normalizer":{{normalizer}},"pre_tokenizer":{{preTokenizer}},"post_processor":null,"decoder":{{decoder}},"model":{{model}}}"""), decodes);

    private void Add(string name, ITokenizer tokenizer, bool decodes = true, string[]? texts = null)
    {
        var file = _folder.Write($"{name}.json", tokenizer.ToJson());
        var cases = new JsonArray();
        foreach (var text in texts ?? Texts)
        {
            var ids = tokenizer.Encode(text);
            cases.Add(new JsonObject { ["text"] = text, ["ids"] = new JsonArray([.. ids.Select(i => (JsonNode)i)]), ["decoded"] = decodes ? tokenizer.Decode(ids) : null });
        }

        _files.Add(new JsonObject { ["file"] = file, ["cases"] = cases });
    }

    private Task CompareAsync() => NodeScript.RunAsync("tokenizers", "0.23.2", "tokenizers.mjs", _folder.Write("cases.json", _files.ToJsonString()));
}
