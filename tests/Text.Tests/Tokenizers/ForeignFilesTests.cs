using System.Text;
using System.Text.Json;
using LlmPipeline.Fakes;
using Microsoft.ML.Tokenizers;

namespace LlmPipeline.Text.Tests.Tokenizers;

/// <summary>Tokenizer files that other projects wrote.</summary>
public sealed class ForeignFilesTests
{
    [Fact]
    public void Gpt2FilesGiveTheReferenceIds()
    {
        var tokenizer = TokenizerFile.Load(TestData.PathOf("gpt2-bpe"));
        Assert.Equal(50_257, tokenizer.VocabularySize);
        Assert.Equal(tokenizer.Hash, TokenizerFile.Load(TestData.PathOf("gpt2-bpe/vocab.bpe")).Hash);
        foreach (var line in File.ReadLines(TestData.PathOf("gpt2-bpe/reference-encodings.jsonl")))
        {
            using var json = JsonDocument.Parse(line);
            Assert.Equal(json.RootElement.GetProperty("ids").EnumerateArray().Select(i => i.GetInt32()), tokenizer.Encode(json.RootElement.GetProperty("text").GetString()!));
        }
    }

    [Fact]
    public void ATokenizerJsonOfAnotherProjectIsRead()
    {
        var tokenizer = TokenizerFile.Load(TestData.PathOf("hf-tokenizer-json/tokenizer.json"));
        Assert.Equal("bpe", tokenizer.Kind);
        Assert.Equal(2020, tokenizer.VocabularySize);
        Assert.Equal(2004, tokenizer.EndOfTextId);

        // It has no merges, and no token for a space in the byte alphabet: single characters, and spaces are dropped.
        Assert.Equal([104, 105, 116, 111], tokenizer.Encode("hi to"));
        Assert.Equal(" the sky", tokenizer.Decode([262, 1983]));
    }

    [Fact]
    public void SentencePieceUnigramGivesTheIdsOfMicrosoftMLTokenizers()
    {
        var path = TestData.PathOf("botchan/test_model.model");
        var tokenizer = TokenizerFile.Load(path);
        using var stream = File.OpenRead(path);
        var reference = SentencePieceTokenizer.Create(stream, addBeginningOfSentence: false, addEndOfSentence: false);
        Assert.Equal("unigram", tokenizer.Kind);
        Assert.Equal(1000, tokenizer.VocabularySize);
        Assert.Equal(2, tokenizer.EndOfTextId);
        var lines = 0;
        foreach (var line in File.ReadLines(TestData.PathOf("botchan/botchan.txt")).Where(l => l.Length > 0))
        {
            // SentencePiece makes one unknown piece of neighbouring ones (sentencepiece_processor.cc), which that package does not.
            var ids = reference.EncodeToIds(line);
            Assert.Equal(ids.Where((id, i) => id != tokenizer.UnknownId || i == 0 || ids[i - 1] != id), tokenizer.Encode(line));
            if (!ids.Contains(tokenizer.UnknownId!.Value))
            {
                Assert.Equal(reference.Decode(ids), tokenizer.Decode([.. ids]));
                lines++;
            }
        }

        Assert.True(lines > 4000);
    }

    [Fact]
    public void SentencePieceNormalizesAsItsTableSays()
    {
        var tokenizer = TokenizerFile.Load(TestData.PathOf("botchan/test_model.model"));
        Assert.Equal(tokenizer.Encode("ABC fi 1 ..."), tokenizer.Encode("  \uff21\uff22\uff23\u3000 \ufb01  \u2460 \u2026 "));
    }

    [Fact]
    public void Llama2CTokensAreThoseOfItsAlgorithm()
    {
        var path = TestData.PathOf("stories260k/tokenizer.bin");
        var tokenizer = TokenizerFile.Load(path);
        var reference = new Llama2CTokenizer(path);
        Assert.Equal(512, tokenizer.VocabularySize);
        Assert.Equal(2, tokenizer.EndOfTextId);
        string[] texts =
        [
            .. TestTexts.Edges.Where(t => t.Length < 1000), .. TestTexts.Languages.Select(l => l.Text[..Math.Min(l.Text.Length, 300)]),
            .. File.ReadLines(TestData.PathOf("botchan/botchan.txt")).Take(500), File.ReadAllText(TestData.PathOf("stories260k/expected-greedy.txt")),
        ];
        foreach (var text in texts)
        {
            Assert.Equal(reference.Encode(text), tokenizer.Encode(text));
            Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text)));
        }
    }

    [Theory]
    [InlineData("stories260k/tokenizer.bin")]
    [InlineData("botchan/test_model.model")]
    [InlineData("hf-tokenizer-json/tokenizer.json")]
    [InlineData("gpt2-bpe")]
    public void WhatWasReadIsKeptAsTokenizerJson(string file)
    {
        var tokenizer = TokenizerFile.Load(TestData.PathOf(file));
        var again = TokenizerFile.Parse(tokenizer.ToJson());
        Assert.Equal(tokenizer.Hash, again.Hash);
        Assert.Equal(tokenizer.EndOfTextId, again.EndOfTextId);
        foreach (var (_, text) in TestTexts.Languages)
        {
            var ids = tokenizer.Encode(text);
            Assert.Equal(ids, again.Encode(text));
            var decoder = new StreamingDecoder(again);
            Assert.Equal(again.Decode(ids), string.Concat([.. ids.Select(decoder.Append), decoder.Finish()]));
        }
    }

    /// <summary>What llama2.c's encode() does, word for word: the two neighbours with the best score, the leftmost first.</summary>
    private sealed class Llama2CTokenizer
    {
        private readonly Dictionary<string, (int Id, float Score)> _tokens = new(StringComparer.Ordinal);
        private readonly List<string> _names = [];

        public Llama2CTokenizer(string path)
        {
            using var reader = new BinaryReader(File.OpenRead(path));
            reader.ReadInt32();
            while (reader.BaseStream.Position < reader.BaseStream.Length)
            {
                var score = reader.ReadSingle();
                _names.Add(Encoding.UTF8.GetString(reader.ReadBytes(reader.ReadInt32())));
                _tokens.TryAdd(_names[^1], (_names.Count - 1, score));
            }
        }

        public List<int> Encode(string text)
        {
            var ids = new List<int>();
            foreach (var rune in (text.Length > 0 ? " " + text : "").EnumerateRunes())
            {
                if (_tokens.TryGetValue(rune.ToString(), out var token))
                {
                    ids.Add(token.Id);
                }
                else
                {
                    ids.AddRange(Encoding.UTF8.GetBytes(rune.ToString()).Select(b => b + 3));
                }
            }

            while (true)
            {
                var (best, at, id) = (-1e10f, -1, -1);
                for (var i = 0; i + 1 < ids.Count; i++)
                {
                    if (_tokens.TryGetValue(_names[ids[i]] + _names[ids[i + 1]], out var joined) && joined.Score > best)
                    {
                        (best, at, id) = (joined.Score, i, joined.Id);
                    }
                }

                if (at < 0)
                {
                    return ids;
                }

                ids[at] = id;
                ids.RemoveAt(at + 1);
            }
        }
    }
}
