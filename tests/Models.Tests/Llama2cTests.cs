using System.Buffers.Binary;
using System.Text;
using LlmPipeline.Fakes;
using LlmPipeline.Text;
using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class Llama2cTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("llama2c-").FullName;

    public Llama2cTests() => TorchRuntime.Initialize();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    // As llama2.c prints it: greedy, from the delimiter of texts on, with the file's own tokenizer.
    [Theory]
    [InlineData("checkpoint_legacy.bin")]
    [InlineData("checkpoint_v1.bin")]
    public void Stories260KTellsItsStoryByteForByte(string file)
    {
        using var model = Llama2cCheckpoint.Load(TestData.PathOf($"stories260k/{file}"), torch.CPU);
        var tokenizer = TokenizerFile.Load(TestData.PathOf("stories260k/tokenizer.bin"));
        Assert.Equal((512, 512), (model.VocabularySize, tokenizer.VocabularySize));
        int[] ids = [.. Generation.Generate(model, [], 200, new SamplingOptions { Temperature = 0 })];
        Assert.Equal(File.ReadAllBytes(TestData.PathOf("stories260k/expected-greedy-200-steps.txt")), Encoding.UTF8.GetBytes(tokenizer.Decode(ids)));

        // The longer text was printed by a program that ends with a new line.
        Assert.Equal(File.ReadAllBytes(TestData.PathOf("stories260k/expected-greedy.txt")),
            Encoding.UTF8.GetBytes(tokenizer.Decode([.. Generation.Generate(model, [], 256, new SamplingOptions { Temperature = 0 })]) + "\n"));
    }

    [Fact]
    public void BothLayoutsOfTheSameModelGiveTheSameWeights()
    {
        using var legacy = Llama2cCheckpoint.Load(TestData.PathOf("stories260k/checkpoint_legacy.bin"), torch.CPU);
        using var version1 = Llama2cCheckpoint.Load(TestData.PathOf("stories260k/checkpoint_v1.bin"), torch.CPU);
        Assert.Equal(legacy.Config, version1.Config);
        Assert.True(legacy.Parameters.Values.SequenceEqual(version1.Parameters.Values));
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public void CheckpointsOfAnySizesLoad(bool isLegacy, bool tied)
    {
        using var model = TestModels.Create(TestModels.TinyLlama with { Tied = tied, EndOfTextId = 1 });
        var path = Write(model, isLegacy);
        using var loaded = Llama2cCheckpoint.Load(path, torch.CPU);
        Assert.Equal(model.Config, loaded.Config);
        Assert.True(model.Parameters.Values.SequenceEqual(loaded.Parameters.Values));
    }

    [Fact]
    public void WrongFilesAreNamed()
    {
        using var model = TestModels.Create(TestModels.TinyLlama);
        var good = File.ReadAllBytes(Write(model, isLegacy: false));
        Assert.Contains("fewer than the header", Error(good[..20]), StringComparison.Ordinal);
        Assert.Contains("within its header", Error(good[..100]), StringComparison.Ordinal);
        Assert.Contains($"has {good.Length - 1} bytes", Error(good[..^1]), StringComparison.Ordinal);
        Assert.Contains("It is cut off", Error([.. good, 0]), StringComparison.Ordinal);
        Assert.Contains("of version 2, with int8 weights", Error([.. good[..4], 2, .. good[5..]]), StringComparison.Ordinal);
        Assert.Contains("0 heads", Error([.. good[..20], 0, 0, 0, 0, .. good[24..]]), StringComparison.Ordinal);
        Assert.Contains("KvHeads is 3", Error([.. good[..24], 3, .. good[25..]]), StringComparison.Ordinal);
        Assert.Contains("Layers is -1", Error([.. Enumerable.Repeat((byte)255, 300)]), StringComparison.Ordinal);
        Assert.Contains("more than", Error([.. good[..8], 0, 64, 0, 0, 0, 0, 1, 0, 0, 4, 0, 0, .. good[20..]]), StringComparison.Ordinal);

        string Error(byte[] bytes)
        {
            var path = Path.Combine(_folder, "wrong.bin");
            File.WriteAllBytes(path, bytes);
            var message = Assert.Throws<InvalidDataException>(() => Llama2cCheckpoint.Load(path, torch.CPU)).Message;
            Assert.Contains(path, message, StringComparison.Ordinal);
            return message;
        }
    }

    // A writer of its own: the layout of export.py, neighbouring channels together.
    private string Write(LanguageModel model, bool isLegacy)
    {
        var (config, tensors) = (model.Config, ForeignWeights.Of(model));
        var bytes = new List<byte>();
        int[] sizes = [config.Width, config.FeedForwardWidth, config.Layers, config.Heads, config.KvHeads, isLegacy && !config.Tied ? -config.VocabularySize : config.VocabularySize, config.Context];
        if (isLegacy)
        {
            Array.ForEach(sizes, Int);
        }
        else
        {
            bytes.AddRange("24ka"u8);
            Int(1);
            Array.ForEach(sizes, Int);
            bytes.Add(config.Tied ? (byte)1 : (byte)0);
            bytes.AddRange(new byte[256 - bytes.Count]);
        }

        string[] attention = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"], mlp = ["mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"];
        string[] order = isLegacy ? ["embed", "input_layernorm", .. attention, "post_attention_layernorm", .. mlp, "norm"]
            : ["input_layernorm", "post_attention_layernorm", "norm", "embed", .. attention, .. mlp];
        foreach (var name in order)
        {
            foreach (var tensor in name switch
            {
                "embed" => ["model.embed_tokens.weight"],
                "norm" => ["model.norm.weight"],
                _ => Enumerable.Range(0, config.Layers).Select(i => $"model.layers.{i}.{name}.weight").ToArray(),
            })
            {
                Floats(name is "self_attn.q_proj" or "self_attn.k_proj" ? Neighbours(tensors[tensor].Values, 4, 16) : tensors[tensor].Values);
            }
        }

        if (isLegacy)
        {
            Floats(new float[config.Context * 4]);
        }

        if (!config.Tied)
        {
            Floats(tensors["lm_head.weight"].Values);
        }

        var path = Path.Combine(_folder, "model.bin");
        File.WriteAllBytes(path, [.. bytes]);
        return path;

        void Int(int value)
        {
            var four = new byte[4];
            BinaryPrimitives.WriteInt32LittleEndian(four, value);
            bytes.AddRange(four);
        }

        void Floats(float[] values) => Array.ForEach(values, v => bytes.AddRange(BitConverter.GetBytes(v)));
    }

    private static float[] Neighbours(float[] halves, int headSize, int width)
        => [.. halves.Chunk(headSize * width).SelectMany(head => Enumerable.Range(0, headSize).SelectMany(row => head.Skip(((row / 2) + (row % 2 == 0 ? 0 : headSize / 2)) * width).Take(width)))];
}
