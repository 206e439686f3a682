using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;
using LlmPipeline.Storage;
using static LlmPipeline.Datasets.V1.Dataset.Types;

namespace LlmPipeline.Preprocessor.Tests;

/// <summary>Several replicas over one store.</summary>
public sealed class ReplicaTests : IDisposable
{
    private const int UnitBytes = 200_000;
    private const string Name = "datasets/shared";

    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(20);

    private readonly TemporaryFolder _folder = new();
    private readonly string _storage;
    private readonly FolderBlobStore _store;
    private readonly DatasetSpec _spec;

    public ReplicaTests()
    {
        _storage = Path.Combine(_folder.Path, "store");
        _store = new FolderBlobStore(_storage);
        _spec = MixtureOf(_folder);
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task KilledAndFrozenReplicasLeaveTheBytesOfASingleOne()
    {
        var replicas = Enumerable.Range(0, 3).Select(_ => Start()).ToArray();
        try
        {
            await replicas[0].CreateAsync(_spec, "shared");
            replicas[2].Freeze();
            var frozen = DateTime.UtcNow;
            var random = new Random(5);
            var kills = 0;
            using var limit = new CancellationTokenSource(Limit);
            while (await StateAsync() != State.Ready)
            {
                await Task.Delay(TimeSpan.FromSeconds(0.5 + random.NextDouble()), limit.Token);
                if (frozen != default && DateTime.UtcNow - frozen > HeldLease.Duration + TimeSpan.FromSeconds(2))
                {
                    // Its leases are over, and it does not know.
                    replicas[2].Thaw();
                    frozen = default;
                }

                if (kills < 4)
                {
                    var victim = random.Next(2);
                    await replicas[victim].DisposeAsync();
                    replicas[victim] = Start();
                    kills++;
                }
            }
        }
        finally
        {
            await Task.WhenAll(replicas.Select(r => r.DisposeAsync().AsTask()));
        }

        await AssertAsOneReplicaMakesItAsync();
    }

    [Fact]
    public async Task ReplicasKilledWhileTheyCommitLeaveTheBytesOfASingleOne()
    {
        using var limit = new CancellationTokenSource(Limit);
        var replicas = new[] { Start(), Start() };
        await replicas[1].CreateAsync(_spec, "shared");
        while (!File.Exists(Path.Combine(_storage, Name, "train-00000.bin")))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(2), limit.Token);
        }

        await Task.WhenAll(replicas.Select(r => r.DisposeAsync().AsTask()));
        await using (Start())
        {
            while (await StateAsync() != State.Ready)
            {
                await Task.Delay(Look, limit.Token);
            }
        }

        await AssertAsOneReplicaMakesItAsync();
    }

    [Fact]
    public async Task EveryReplicaShowsWhatTheOthersMakeAndCancels()
    {
        await using var one = await PreprocessorHost.StartAsync(_storage, ("Preprocessor:UnitBytes", $"{UnitBytes}"));
        await using var two = await PreprocessorHost.StartAsync(_storage, ("Preprocessor:UnitBytes", $"{UnitBytes}"));
        var created = await Task.WhenAll(one.CreateAsync(_spec), two.CreateAsync(_spec), one.CreateAsync(_spec), two.CreateAsync(_spec));
        var name = Assert.Single(created.Select(d => d.Name).Distinct());
        var ready = await Task.WhenAll(one.WatchAsync(name), two.WatchAsync(name));
        Assert.Equal(State.Ready, ready[0][^1].Dataset.State);
        Assert.Equal(ready[0][^1].Dataset, ready[1][^1].Dataset);
        foreach (var host in new[] { one, two })
        {
            Assert.Equal(ready[0][^1].Dataset, Assert.Single((await host.Datasets.ListDatasetsAsync(new ListDatasetsRequest(), deadline: PreprocessorHost.Deadline)).Datasets));
        }

        await one.CreateAsync(_spec, "shared");
        var cancelled = (await two.Datasets.CancelDatasetAsync(new CancelDatasetRequest { Name = Name }, deadline: PreprocessorHost.Deadline)).Dataset;
        Assert.Equal(State.Cancelled, cancelled.State);
        Assert.Equal(State.Cancelled, (await one.WatchAsync(Name))[^1].Dataset.State);
        using var limit = new CancellationTokenSource(PreprocessorHost.Patience);
        while (await _store.ListAsync(Name + "/").CountAsync() > 1)
        {
            await Task.Delay(Look, limit.Token);
        }

        // What is over cannot be cancelled; what was cancelled can be made again.
        Assert.Equal(State.Ready, (await two.Datasets.CancelDatasetAsync(new CancelDatasetRequest { Name = name }, deadline: PreprocessorHost.Deadline)).Dataset.State);
        Assert.Equal(State.Queued, (await one.CreateAsync(_spec, "shared")).State);
        Assert.Equal(State.Ready, (await two.WatchAsync(Name))[^1].Dataset.State);
    }

    private PreprocessorProcess Start() => PreprocessorProcess.Start(_storage, _folder.Path, UnitBytes);

    private async Task<State> StateAsync()
    {
        var (json, _) = (await _store.TryReadTextAsync($"{Name}/dataset.json"))!.Value;
        var state = Dataset.Parser.ParseJson(json).State;
        Assert.NotEqual(State.Failed, state);
        return state;
    }

    private async Task AssertAsOneReplicaMakesItAsync()
    {
        var alone = Path.Combine(_folder.Path, "alone");
        await using var host = await PreprocessorHost.StartAsync(alone);
        Assert.Equal(State.Ready, (await host.WatchAsync((await host.CreateAsync(_spec, "shared")).Name))[^1].Dataset.State);
        var expected = (await new FolderBlobStore(alone).TryReadTextAsync($"{Name}/manifest.json"))!.Value.Text;
        Assert.Equal(expected, (await _store.TryReadTextAsync($"{Name}/manifest.json"))!.Value.Text);
        await _store.GetVerifiedLocalDirectoryAsync(Name);
        Assert.Equal(Names(alone), Names(_storage));
    }

    // All that is left, other than the store's own.
    private static IEnumerable<string> Names(string folder) => Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories)
        .Select(f => Path.GetRelativePath(folder, f)).Where(f => !f.StartsWith(".store", StringComparison.Ordinal) && !f.StartsWith("unfinished", StringComparison.Ordinal)).Order(StringComparer.Ordinal);

    /// <summary>Two parts with weights, 7 MB together.</summary>
    internal static DatasetSpec MixtureOf(TemporaryFolder folder) => new()
    {
        Mixture =
        {
            new MixtureSpec { Sources = { WriteText(folder, "one", 12_000) }, Weight = 3 },
            new MixtureSpec { Sources = { WriteText(folder, "two", 4_000) }, Weight = 2 },
        },
        Tokenizer = new TokenizerSpec { VocabularySize = 600, Balance = 0.5 },
        Split = new SplitSpec { ValidationFraction = 0.1 },
    };

    private static string WriteText(TemporaryFolder folder, string name, int documents)
    {
        var path = Path.Combine(folder.Path, $"{name}.jsonl");
        var random = new Random(name.Length + documents);
        using var writer = new StreamWriter(path);
        for (var i = 0; i < documents; i++)
        {
            writer.Write($"{{\"text\":\"{name} {i}:");
            for (var word = 0; word < 60; word++)
            {
                writer.Write($" {name}{random.Next(2000)}");
            }

            writer.Write("\"}\n");
        }

        return path;
    }
}
