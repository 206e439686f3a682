using System.Buffers.Binary;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Trainer.Optimizers;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

/// <summary>Each worker trains on text of its own.</summary>
public sealed class OwnDataTests
{
    private static RunSpec Spec(Action<RunSpec>? change = null) => LocalTrainingTests.Spec(spec =>
    {
        (spec.Training.Local.OwnData, spec.Training.Local.OptimizerState, spec.Training.Local.Shards) = (true, "reset", 2);
        spec.Model.Dropout = 0;
        change?.Invoke(spec);
    });

    private static LoopHarness Harness(RunSpec spec, params Ids[] texts) => new(spec, texts.Length)
    {
        Wrap = (rank, _) => new OwnData(texts[rank], TinyRun.Dataset().Validation, TrainingSettings.From(spec)),
    };

    [Theory]
    [InlineData("fp32")]
    [InlineData("int8")]
    public async Task TheMeanIsWeightedByTokens(string wire)
    {
        var spec = Spec(s => (s.Training.Steps, s.Training.Local.OuterMomentum, s.Training.Local.Wire) = (4, 0, wire));
        Ids[] texts = [new Ids(3000, 1), new Ids(1000, 2)];
        float[][] alone = new float[2][];
        for (var i = 0; i < 2; i++)
        {
            using var one = Harness(spec, texts[i]);
            Assert.Equal([LoopOutcome.Finished], await one.RunAsync());
            alone[i] = one.Replicas[0].Model.Parameters.Values.ToArray();
        }

        using var both = Harness(spec, texts);
        Assert.All(await both.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.True(TrainingLoopTests.SameState(both.Replicas[0], both.Replicas[1]));
        var tolerance = wire == "fp32" ? 1e-6f : 2e-3f;
        var mean = both.Replicas[0].Model.Parameters.Values.ToArray();
        for (var i = 0; i < mean.Length; i++)
        {
            Assert.Equal((0.75f * alone[0][i]) + (0.25f * alone[1][i]), mean[i], tolerance);
        }

        Assert.Equal(4 * 8 * 8, both.Replicas[0].State.TokenCount);
    }

    [Fact]
    public async Task AnUpdateIsNoLongerThanTheClipNorm()
    {
        var spec = Spec(s => (s.Training.Steps, s.Training.Local.OuterMomentum, s.Training.Local.ClipNorm) = (4, 0, 0.01));
        using var harness = Harness(spec, new Ids(2000, 1), new Ids(2000, 2));
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        using var fresh = TinyRun.NewReplica(spec);
        float[] change = [.. harness.Replicas[0].Model.Parameters.Values.ToArray().Zip(fresh.Model.Parameters.Values.ToArray(), (a, b) => a - b)];
        Assert.InRange(GradientNorm.Compute(change), 0.004, 0.01001);
    }

    [Fact]
    public async Task ItLearnsAndALossOfAMemberLeavesTheOthersTraining()
    {
        var spec = Spec(s => (s.Training.Steps, s.Training.Local.Shards, s.Training.BatchSize) = (48, 3, 12));
        Ids[] texts = [new Ids(2000, 1), new Ids(2000, 2), new Ids(1000, 3)];
        using var harness = Harness(spec, texts);
        harness.AfterStep = step => harness.Controls[0].LeaveRequested = step >= 24;
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Left, outcome));
        using var rest = new LoopHarness(spec, 2, 2, harness.Replicas[1..])
        {
            Wrap = (rank, _) => new OwnData(texts[rank + 1], TinyRun.Dataset().Validation, TrainingSettings.From(spec)),
        };
        Assert.All(await rest.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        var losses = harness.Sink.Curve.Concat(rest.Sink.Curve).DistinctBy(c => c.Step).Select(c => c.Loss).ToList();
        Assert.Equal(48, losses.Count);
        Assert.True(losses[^4..].Average() < losses[..4].Average() - 0.3, string.Join(' ', losses));
    }

    [Fact]
    public async Task NoTokenLeavesTheWorker()
    {
        var spec = Spec();
        Ids[] texts = [new Ids(1500, 11), new Ids(1500, 12)];
        var search = new Search(texts);
        using var folder = new TemporaryFolder();
        using var harness = Harness(spec, texts);
        harness.Checkpoints = new CheckpointStore(new FolderBlobStore(folder.Path), "{}");
        var sent = new List<byte[]>();
        foreach (var ring in harness.Rings)
        {
            ring.Sent = bytes =>
            {
                lock (sent)
                {
                    sent.Add(bytes);
                }
            };
        }

        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        sent.AddRange(Directory.EnumerateFiles(folder.Path, "*", SearchOption.AllDirectories).Select(File.ReadAllBytes));
        sent.AddRange(harness.Sink.Steps.Values.Select(s => System.Text.Encoding.UTF8.GetBytes(s.ToString())));
        Assert.True(sent.Sum(bytes => (long)bytes.Length) > 100_000);
        Assert.DoesNotContain(sent, search.Finds);

        // It would have been found, in whatever width.
        foreach (var width in Search.Widths)
        {
            var leak = new byte[200 + (width * 8)];
            for (var i = 0; i < 8; i++)
            {
                leak[101 + (i * width)] = (byte)texts[1][700 + i];
            }

            Assert.True(search.Finds(leak));
        }
    }

    /// <summary>Random ids.</summary>
    private sealed class Ids : TokenSplit
    {
        private readonly int[] _ids;

        public Ids(int count, int seed)
        {
            var random = new Random(seed);
            _ids = new int[count];
            for (var i = 1; i < count; i++)
            {
                _ids[i] = random.Next(3) == 0 ? random.Next(1, TinyRun.Vocabulary) : 1 + (((_ids[i - 1] * 5) + 3) % (TinyRun.Vocabulary - 1));
            }
        }

        public int this[int index] => _ids[index];

        public override long TokenCount => _ids.Length;

        public override long ByteCount => _ids.Length;

        public override long DocumentCount => 1;

        public override void Read(long position, Span<int> ids) => _ids.AsSpan((int)position, ids.Length).CopyTo(ids);
    }

    /// <summary>Looks for eight ids in a row of some texts, as integers of any width, anywhere in bytes.</summary>
    private sealed class Search
    {
        public static readonly int[] Widths = [1, 2, 4, 8];
        private readonly HashSet<ulong> _known = [];

        public Search(IEnumerable<Ids> texts)
        {
            foreach (var text in texts)
            {
                for (var i = 0; i + 8 <= text.TokenCount; i++)
                {
                    var ids = Enumerable.Range(i, 8).Select(k => (byte)text[k]).ToArray();

                    // Nearly equal ones say nothing.
                    if (ids.Distinct().Count() > 4)
                    {
                        _known.Add(BinaryPrimitives.ReadUInt64LittleEndian(ids));
                    }
                }
            }
        }

        public bool Finds(byte[] bytes)
        {
            Span<byte> row = stackalloc byte[8];
            foreach (var width in Widths)
            {
                for (var at = 0; at + (8 * width) <= bytes.Length; at++)
                {
                    var isRow = true;
                    for (var i = 0; i < 8 && isRow; i++)
                    {
                        row[i] = bytes[at + (i * width)];
                        isRow = row[i] is > 0 and < TinyRun.Vocabulary && !bytes.AsSpan(at + (i * width) + 1, width - 1).ContainsAnyExcept((byte)0);
                    }

                    if (isRow && _known.Contains(BinaryPrimitives.ReadUInt64LittleEndian(row)))
                    {
                        return true;
                    }
                }
            }

            return false;
        }
    }
}
