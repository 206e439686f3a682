using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;
using LlmPipeline.Storage;
using static LlmPipeline.Datasets.V1.Dataset.Types;

namespace LlmPipeline.Preprocessor.Tests;

/// <summary>Several replicas over Azure Blob Storage, or what stands for it.</summary>
public sealed class ReplicasOnAzureTests(Azurite azurite) : IClassFixture<Azurite>, IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(5);

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task AKilledReplicaLeavesTheBytesThatAFolderHas()
    {
        Assert.SkipUnless(NpmPackage.IsWanted, "Set LLMPIPELINE_NPM=1 to test against Azurite (npm installs it into the temporary folder).");
        var connection = $"{azurite.ConnectionString}ContainerName=replicas-{Guid.NewGuid():N}";
        var spec = ReplicaTests.MixtureOf(_folder);
        using var limit = new CancellationTokenSource(Limit);
        await using var second = PreprocessorProcess.Start(connection, _folder.Path, unitBytes: 1_000_000);
        string name;
        await using (var first = PreprocessorProcess.Start(connection, _folder.Path, unitBytes: 1_000_000))
        {
            name = (await first.CreateAsync(spec, "shared")).Name;
            using var watch = first.Datasets.WatchDataset(new WatchDatasetRequest { Name = name }, cancellationToken: limit.Token);
            while (await watch.ResponseStream.MoveNext(limit.Token) && watch.ResponseStream.Current.Dataset.State is State.Queued or State.Reading)
            {
            }
        }

        using var rest = second.Datasets.WatchDataset(new WatchDatasetRequest { Name = name }, cancellationToken: limit.Token);
        var last = State.Unspecified;
        while (await rest.ResponseStream.MoveNext(limit.Token))
        {
            last = rest.ResponseStream.Current.Dataset.State;
        }

        Assert.Equal(State.Ready, last);
        var folder = Path.Combine(_folder.Path, "alone");
        await using var host = await PreprocessorHost.StartAsync(folder);
        Assert.Equal(State.Ready, (await host.WatchAsync((await host.CreateAsync(spec, "shared")).Name))[^1].Dataset.State);
        Assert.Equal(
            (await new FolderBlobStore(folder).TryReadTextAsync($"{name}/manifest.json"))!.Value.Text,
            (await BlobStore.Open(connection).TryReadTextAsync($"{name}/manifest.json"))!.Value.Text);
    }
}
