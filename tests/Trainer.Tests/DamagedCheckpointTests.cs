using LlmPipeline.Fakes;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Coordinator;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

/// <summary>A checkpoint that is not what was written is never loaded, and the one before is.</summary>
public sealed class DamagedCheckpointTests : IDisposable
{
    private const int Boundary = 64 * 1024;
    private const int Flips = 1000;
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task TruncatedAtAnyBoundaryItIsNotLoaded()
    {
        var (store, files) = await TrainAsync();
        var tried = 0;
        foreach (var file in files)
        {
            var bytes = await File.ReadAllBytesAsync(file);
            int[] lengths = [.. Enumerable.Range(0, (bytes.Length + Boundary - 1) / Boundary).Select(i => i * Boundary), bytes.Length - 1];
            foreach (var length in lengths.Distinct())
            {
                await File.WriteAllBytesAsync(file, bytes[..length]);
                await IsNotLoadedAsync(store, $"{file} cut to {length} bytes");
                tried++;
            }

            File.Delete(file);
            if (!file.EndsWith("manifest.json", StringComparison.Ordinal))
            {
                await IsNotLoadedAsync(store, $"{file} missing");
            }

            await File.WriteAllBytesAsync(file, bytes);
        }

        Assert.True(tried > 30, $"{tried} truncations");
        Assert.Equal(8, (await Checkpoints.NewestIntactAsync(store, "runs/tiny", long.MaxValue, CancellationToken.None)).Newest!.Step);
    }

    [Fact]
    public async Task WithAnyBitFlippedItIsNotLoaded()
    {
        var (store, files) = await TrainAsync();
        var random = new Random(1);
        var contents = files.ToDictionary(f => f, File.ReadAllBytes);
        for (var flip = 0; flip < Flips; flip++)
        {
            // Every file gets its share, however small it is.
            var file = files[flip % files.Length];
            var bytes = contents[file];
            var (place, bit) = (random.Next(bytes.Length), random.Next(8));
            bytes[place] ^= (byte)(1 << bit);
            await File.WriteAllBytesAsync(file, bytes);
            await IsNotLoadedAsync(store, $"bit {bit} of byte {place} of {file}");
            bytes[place] ^= (byte)(1 << bit);
            await File.WriteAllBytesAsync(file, bytes);
        }
    }

    [Fact]
    public async Task TheOneBeforeIsFoundAndHoldsItsOwnState()
    {
        var (store, files) = await TrainAsync();
        var weights = files.Single(f => f.EndsWith("model.safetensors", StringComparison.Ordinal));
        var bytes = await File.ReadAllBytesAsync(weights);
        bytes[^1] ^= 1;
        await File.WriteAllBytesAsync(weights, bytes);
        var (newest, damaged) = await Checkpoints.NewestIntactAsync(store, "runs/tiny", long.MaxValue, CancellationToken.None);
        Assert.Equal(4, newest!.Step);
        Assert.Equal([8L], damaged.Select(d => d.Step));
        using var replica = TinyRun.NewReplica(TinyRun.Spec(Wider));
        Assert.Equal(4, (await CheckpointStore.LoadAsync(store, newest.Name, replica, CancellationToken.None)).Step);
    }

    private static async Task IsNotLoadedAsync(FolderBlobStore store, string what)
    {
        var error = await Record.ExceptionAsync(() => store.VerifyDirectoryAsync("runs/tiny/checkpoints/00000008"));
        Assert.True(error is CorruptDirectoryException, $"{what}: {error}");
        error = await Record.ExceptionAsync(() => store.GetVerifiedLocalDirectoryAsync("runs/tiny/checkpoints/00000008", anew: true));
        Assert.True(error is CorruptDirectoryException, $"{what}: {error}");
    }

    private async Task<(FolderBlobStore Store, string[] Files)> TrainAsync()
    {
        var store = new FolderBlobStore(_folder.Path);
        using var harness = new LoopHarness(TinyRun.Spec(Wider), 1) { Checkpoints = new CheckpointStore(store, "{}") };
        Assert.Equal([LoopOutcome.Finished], await harness.RunAsync());
        var folder = Path.GetDirectoryName(store.TryGetLocalPath("runs/tiny/checkpoints/00000008/manifest.json"))!;
        return (store, Directory.GetFiles(folder));
    }

    private static void Wider(Runs.V1.RunSpec spec) => (spec.Model.Width, spec.Training.Steps) = (96, 8);
}
