using System.Buffers.Binary;
using System.Runtime.InteropServices;
using LlmPipeline.Models.Networks;
using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>
/// Checkpoints of llama2.c (karpathy/llama2.c, export.py): the legacy layout, whose header is 7 numbers, and version 1, whose
/// header begins with "ak42". Their rotary positions turn neighbouring channels; the rows of queries and keys are put in the
/// order of Hugging Face's layout, which turns the halves of a head.
/// </summary>
public static class Llama2cCheckpoint
{
    private const uint Magic = 0x616b3432;
    private const int LegacyHeaderBytes = 7 * sizeof(int);
    private const int HeaderBytes = 256;

    /// <summary>Begins and ends every text that such a model was trained on; its tokenizer calls it &lt;s&gt;.</summary>
    private const int TextDelimiter = 1;

    /// <summary>Loads a checkpoint.</summary>
    /// <exception cref="InvalidDataException">The file is no such checkpoint, is cut off, or has quantized weights; the message names it.</exception>
    public static LanguageModel Load(string path, torch.Device device)
    {
        using var file = File.OpenRead(path);
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (file.ReadAtLeast(header[..LegacyHeaderBytes], LegacyHeaderBytes, throwOnEndOfStream: false) < LegacyHeaderBytes)
        {
            throw new InvalidDataException($"'{path}' has {file.Length} bytes, fewer than the header of a llama2.c checkpoint.");
        }

        var isLegacy = BinaryPrimitives.ReadUInt32LittleEndian(header) != Magic;
        if (!isLegacy)
        {
            var version = BinaryPrimitives.ReadInt32LittleEndian(header[4..]);
            if (version != 1)
            {
                throw new InvalidDataException($"'{path}' is a llama2.c checkpoint of version {version}{(version == 2 ? ", with int8 weights" : "")}; the legacy layout and version 1 can be read. Export it with --version 1.");
            }

            if (file.ReadAtLeast(header[LegacyHeaderBytes..], HeaderBytes - LegacyHeaderBytes, throwOnEndOfStream: false) < HeaderBytes - LegacyHeaderBytes)
            {
                throw new InvalidDataException($"'{path}' is cut off within its header.");
            }
        }

        var config = ReadConfig(path, isLegacy ? header : header[8..], isLegacy, header[36] != 0);
        var parts = isLegacy ? LegacyParts(config) : Parts(config);
        var length = (isLegacy ? LegacyHeaderBytes : HeaderBytes) + (sizeof(float) * parts.Sum(p => p.Length));
        if (file.Length != length)
        {
            throw new InvalidDataException($"'{path}' has {file.Length} bytes; a llama2.c checkpoint of its sizes ({config.Layers} layers of width {config.Width}, {config.VocabularySize} ids) has {length}. It is cut off, or something else.");
        }

        var model = NetworkArchitecture.Of(config.Architecture).Create(config, device);
        try
        {
            foreach (var part in parts)
            {
                var values = part.Name is null ? new float[part.Length] : model.Parameters.ValuesOf(part.Name);
                file.ReadExactly(MemoryMarshal.AsBytes(values));
                if (part.Heads > 0)
                {
                    SplitHalves(values, part.Heads, config.HeadWidth, config.Width);
                }
            }

            model.Parameters.UploadValues();
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    private static ModelConfig ReadConfig(string path, ReadOnlySpan<byte> header, bool isLegacy, bool isShared)
    {
        var sizes = new int[7];
        for (var i = 0; i < sizes.Length; i++)
        {
            sizes[i] = BinaryPrimitives.ReadInt32LittleEndian(header[(sizeof(int) * i)..]);
        }

        if (sizes is not [var width, var hidden, var layers, var heads, var kvHeads, var vocabulary, var context] || heads == 0 || vocabulary == int.MinValue)
        {
            throw new InvalidDataException($"'{path}' is not a llama2.c checkpoint: its header has {sizes[3]} heads and {sizes[5]} ids.");
        }

        var config = new ModelConfig
        {
            Architecture = "llama",
            Width = width,
            FeedForwardWidth = hidden,
            Layers = layers,
            Heads = heads,
            KvHeads = kvHeads,
            VocabularySize = Math.Abs(vocabulary),
            Context = context,
            Tied = isLegacy ? vocabulary > 0 : isShared,
            Bias = false,
            NormEpsilon = 1e-5,
            EndOfTextId = TextDelimiter,
        };
        return ParameterLayout.Require(config, $"'{path}' is not a llama2.c checkpoint");
    }

    private static List<Part> LegacyParts(ModelConfig config)
    {
        var layers = Enumerable.Range(0, config.Layers).ToArray();
        List<Part> parts =
        [
            Embedding(config), .. layers.Select(i => Norm(config, i, "input_layernorm")), .. AttentionParts(config),
            .. layers.Select(i => Norm(config, i, "post_attention_layernorm")), .. FeedForwardParts(config), FinalNorm(config),
            .. Enumerable.Repeat(new Part(null, (long)config.Context * config.HeadWidth / 2), 2), // the rotations, which are computed
        ];
        return config.Tied ? parts : [.. parts, Head(config)];
    }

    private static List<Part> Parts(ModelConfig config)
    {
        var layers = Enumerable.Range(0, config.Layers).ToArray();
        List<Part> parts =
        [
            .. layers.Select(i => Norm(config, i, "input_layernorm")), .. layers.Select(i => Norm(config, i, "post_attention_layernorm")), FinalNorm(config),
            Embedding(config), .. AttentionParts(config), .. FeedForwardParts(config),
        ];
        return config.Tied ? parts : [.. parts, Head(config)];
    }

    private static Part Embedding(ModelConfig config) => new("model.embed_tokens.weight", (long)config.VocabularySize * config.Width);

    private static Part Head(ModelConfig config) => new("lm_head.weight", (long)config.VocabularySize * config.Width);

    private static Part FinalNorm(ModelConfig config) => new("model.norm.weight", config.Width);

    private static Part Norm(ModelConfig config, int layer, string name) => new($"model.layers.{layer}.{name}.weight", config.Width);

    private static IEnumerable<Part> AttentionParts(ModelConfig config)
    {
        var (all, shared) = ((long)config.Width * config.Width, (long)config.KvHeads * config.HeadWidth * config.Width);
        return Layers(config, "self_attn.q_proj", all, config.Heads)
            .Concat(Layers(config, "self_attn.k_proj", shared, config.KvHeads))
            .Concat(Layers(config, "self_attn.v_proj", shared))
            .Concat(Layers(config, "self_attn.o_proj", all));
    }

    private static IEnumerable<Part> FeedForwardParts(ModelConfig config)
    {
        var length = (long)config.Width * config.FeedForwardWidth;
        return Layers(config, "mlp.gate_proj", length).Concat(Layers(config, "mlp.down_proj", length)).Concat(Layers(config, "mlp.up_proj", length));
    }

    private static IEnumerable<Part> Layers(ModelConfig config, string name, long length, int heads = 0)
        => Enumerable.Range(0, config.Layers).Select(i => new Part($"model.layers.{i}.{name}.weight", length, heads));

    // Rows 0, 2, 4, ... of a head become its first half, rows 1, 3, 5, ... its second.
    private static void SplitHalves(Span<float> weight, int heads, int headSize, int width)
    {
        var rows = new float[headSize * width];
        for (var head = 0; head < heads; head++)
        {
            var own = weight.Slice(head * rows.Length, rows.Length);
            own.CopyTo(rows);
            for (var row = 0; row < headSize; row++)
            {
                rows.AsSpan(row * width, width).CopyTo(own[(((row / 2) + (row % 2 * headSize / 2)) * width)..]);
            }
        }
    }

    /// <summary>A tensor of the file, in order.</summary>
    /// <param name="Name">Its name in the network; null for numbers that it does not need.</param>
    /// <param name="Length">Number of elements.</param>
    /// <param name="Heads">Heads whose rows are to be put in order; 0 for none.</param>
    private sealed record Part(string? Name, long Length, int Heads = 0);
}
