using System.Text;
using System.Text.Json;
using LlmPipeline.Models;
using LlmPipeline.Text;
using TorchSharp;

namespace LlmPipeline.Bench.Quality;

/// <summary>Published results that have to come out exactly.</summary>
internal static class ExactFigures
{
    private const int TrainCharacters = 1_003_854;

    /// <summary>BLEU (13a) of WMT 2017's systems by sacreBLEU.</summary>
    private static readonly Dictionary<string, double> Bleus = new()
    {
        ["FBK.4870"] = 26.331621,
        ["LIUM-NMT.4900"] = 26.595805,
        ["LMU-nmt-reranked.4934"] = 27.106981,
        ["PROMT-Rule-based.4735"] = 16.608607,
        ["online-A.0"] = 20.796506,
        ["online-F.0"] = 15.451736,
    };

    /// <summary>Tokens of the two parts of Tiny Shakespeare under GPT-2's vocabulary.</summary>
    public static Figure Gpt2Tokens(string data)
    {
        var vocabulary = JsonSerializer.Deserialize<Dictionary<string, int>>(File.ReadAllText(Path.Combine(data, "gpt2-bpe", "encoder.json")))!;
        var merges = File.ReadLines(Path.Combine(data, "gpt2-bpe", "vocab.bpe")).Skip(1).Where(l => l.Length > 0).Select(l => l.Split(' ')).Select(p => (p[0], p[1]));
        var tokenizer = BpeTokenizer.Create(vocabulary, merges);
        var text = File.ReadAllText(Path.Combine(data, "tinyshakespeare", "input.txt"));
        var (train, validation) = (tokenizer.Encode(text[..TrainCharacters]).Length, tokenizer.Encode(text[TrainCharacters..]).Length);
        return new Figure("GPT-2 tokens of Tiny Shakespeare", "301966 + 36059", $"{train} + {validation}", (train, validation) == (301_966, 36_059));
    }

    /// <summary>The 1,000 merges and the segmentation of subword-nmt.</summary>
    public static Figure SubwordNmt(string data)
    {
        var corpus = Path.Combine(data, "bpe-reference", "corpus.en");
        var words = WordCounts.Count(File.ReadLines(corpus).Select(line => (ReadOnlyMemory<byte>)Encoding.UTF8.GetBytes(line + "\n")), ClassicBpe.Splitter, 1);
        var bpe = ClassicBpe.Learn(words, 1000);
        var codes = new StringWriter();
        bpe.Write(codes);
        var expected = File.ReadAllLines(Path.Combine(data, "bpe-reference", "corpus.bpe.ref.en"));
        var different = File.ReadLines(corpus).Zip(expected, (line, reference) => bpe.Segment(line) == reference).Count(same => !same);
        var merges = codes.ToString() == File.ReadAllText(Path.Combine(data, "bpe-reference", "bpe.ref"));
        return new Figure("subword-nmt: learn 1,000 merges, apply", $"its files, {expected.Length} lines", $"merges {(merges ? "the same" : "differ")}, {different} lines differ", merges && different == 0);
    }

    /// <summary>The greedy text of the llama2.c checkpoint of 260,000 parameters, as the reference program prints it.</summary>
    public static Figure Stories(string data)
    {
        var folder = Path.Combine(data, "stories260k");
        TorchRuntime.Initialize();
        using var model = Llama2cCheckpoint.Load(Path.Combine(folder, "checkpoint_v1.bin"), torch.CPU);
        var tokenizer = TokenizerFile.Load(Path.Combine(folder, "tokenizer.bin"));
        var text = Encoding.UTF8.GetBytes(tokenizer.Decode([.. Generation.Generate(model, [], 200, new SamplingOptions { Temperature = 0 })]));
        var expected = File.ReadAllBytes(Path.Combine(folder, "expected-greedy-200-steps.txt"));
        var same = text.AsSpan().CommonPrefixLength(expected);
        return new Figure("llama2.c stories260K: 200 greedy steps", $"the reference program's text, {expected.Length} bytes", $"{text.Length} bytes, the first {same} the same", text.SequenceEqual(expected));
    }

    /// <summary>BLEU of the systems of WMT 2017.</summary>
    public static Figure SacreBleu(string data)
    {
        var references = Segments(data, "reference");
        var worst = Bleus.Max(system => Math.Abs(Bleu.Corpus(Segments(data, system.Key), references).Score - system.Value));
        return new Figure($"sacreBLEU, {Bleus.Count} systems of WMT 2017", "within 1e-6", $"largest difference {worst:E1}", worst <= 1e-6);
    }

    // One file begins with U+FEFF, which is text there: no byte order mark is taken off.
    private static string[] Segments(string data, string system) =>
        Encoding.UTF8.GetString(File.ReadAllBytes(Path.Combine(data, "wmt17-en-de-bleu", system + ".de"))).TrimEnd('\n').Split('\n');
}

/// <summary>A row of the table.</summary>
/// <param name="Work">What is reproduced.</param>
/// <param name="Published">The published figure, or what it has to be.</param>
/// <param name="Measured">What came out.</param>
/// <param name="Holds">Whether it is reproduced.</param>
internal sealed record Figure(string Work, string Published, string Measured, bool Holds);
