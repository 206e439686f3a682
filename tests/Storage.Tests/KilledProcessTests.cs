using LlmPipeline.Fakes;
using Microsoft.Extensions.Time.Testing;

namespace LlmPipeline.Storage.Tests;

public sealed class KilledProcessTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task AWriterKilledMidWriteLeavesNothingVisible()
    {
        var store = new FolderBlobStore(_folder.Path);
        using (var child = new ChildProcess("write", _folder.Path))
        {
            Assert.Equal("ready", await child.ReadLineAsync());
            Assert.True(new FileInfo(Assert.Single(Directory.GetFiles(Path.Combine(_folder.Path, ".store", "tmp")))).Length >= 1024 * 1024);
            await child.KillAsync();
        }

        Assert.Null(await store.TryGetPropertiesAsync("victim"));
        Assert.Empty(await store.ListAsync("").ToListAsync());
        await store.WriteTextAsync("victim", "next", BlobCondition.NotExists);

        var left = Assert.Single(Directory.GetFiles(Path.Combine(_folder.Path, ".store", "tmp")));
        File.SetLastWriteTimeUtc(left, DateTime.UtcNow.AddHours(-2));
        _ = new FolderBlobStore(_folder.Path);
        Assert.False(File.Exists(left));
    }

    [Fact]
    public async Task AReaderSeesWholeVersionsWhileAWriterRunsAndAfterItIsKilled()
    {
        var store = new FolderBlobStore(_folder.Path);
        for (var round = 0; round < 3; round++)
        {
            using var child = new ChildProcess("overwrite", _folder.Path);
            Assert.Equal("ready", await child.ReadLineAsync());
            for (var i = 0; i < 50 * (round + 1); i++)
            {
                AssertWhole(await store.TryReadTextAsync("victim"));
            }

            await child.KillAsync();
            AssertWhole(await store.TryReadTextAsync("victim"));
            await store.WriteTextAsync("victim", new string('z', 200_000));
        }

        static void AssertWhole((string Text, string ETag)? read)
        {
            Assert.Equal(200_000, read!.Value.Text.Length);
            Assert.Equal(-1, read.Value.Text.AsSpan().IndexOfAnyExcept(read.Value.Text[0]));
        }
    }

    [Fact]
    public async Task ALeaseOfAKilledHolderEndsWithItOnTheSameMachineAndByItselfOnAnother()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        var store = new FolderBlobStore(_folder.Path, time);
        string lease;
        using (var child = new ChildProcess("lease", _folder.Path))
        {
            Assert.Equal("ready", await child.ReadLineAsync());
            Assert.Null(await store.TryAcquireLeaseAsync("victim", TimeSpan.FromSeconds(15)));
            lease = Assert.Single(Directory.EnumerateFiles(_folder.Path, "victim", SearchOption.AllDirectories));
            await child.KillAsync();
        }

        var written = await File.ReadAllTextAsync(lease);
        if (OperatingSystem.IsLinux())
        {
            await using var taken = await store.TryAcquireLeaseAsync("victim", TimeSpan.FromSeconds(15));
            Assert.NotNull(taken);
        }

        // The same holder, had it run elsewhere: nobody here can know what became of it.
        var parts = written.Split(' ');
        await File.WriteAllTextAsync(lease, $"{parts[0]} {parts[1]} other-{parts[2]}");
        Assert.Null(await store.TryAcquireLeaseAsync("victim", TimeSpan.FromSeconds(15)));
        time.Advance(TimeSpan.FromMinutes(1));
        await using var next = await store.TryAcquireLeaseAsync("victim", TimeSpan.FromSeconds(15));
        Assert.NotNull(next);
    }

    [Fact]
    public async Task DeletingAndWritingInOneFolderByTwoProcessesLosesNothing()
    {
        var store = new FolderBlobStore(_folder.Path);
        using var child = new ChildProcess("come-and-go", _folder.Path);
        for (var i = 0; i < 1000; i++)
        {
            await store.WriteTextAsync("shared/folder/mine", $"{i}");
            Assert.Equal($"{i}", (await store.TryReadTextAsync("shared/folder/mine"))?.Text);
            Assert.True(await store.DeleteAsync("shared/folder/mine"));
        }

        await child.WaitAsync();
        Assert.False(Directory.Exists(Path.Combine(_folder.Path, "shared")));
    }

    [Fact]
    public async Task AProcessThatStopsWithALockHoldsUpThatNameAloneAndIsTold()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        var store = new FolderBlobStore(_folder.Path, time);
        await store.WriteTextAsync("victim", "before");
        var path = Assert.Single(Directory.GetFiles(Path.Combine(_folder.Path, ".store", "locks")));
        using (new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None))
        {
            // What a coordinator does to go on without a worker that is stopped.
            await store.WriteTextAsync("runs/run-0001/epoch", "2", BlobCondition.NotExists);
            await using var lease = await store.TryAcquireLeaseAsync("trainer/leader", TimeSpan.FromSeconds(15));
            Assert.True(await lease!.RenewAsync());
            Assert.True(await store.DeleteAsync("runs/run-0001/epoch"));
            Assert.Equal("before", (await store.TryReadTextAsync("victim"))?.Text);

            var writing = store.WriteTextAsync("victim", "after");
            while (!writing.IsCompleted)
            {
                time.Advance(TimeSpan.FromSeconds(5));
                await Task.Delay(5);
            }

            var error = await Assert.ThrowsAsync<IOException>(() => writing);
            Assert.Contains("'victim'", error.Message, StringComparison.Ordinal);
            Assert.Contains(path, error.Message, StringComparison.Ordinal);
        }

        await store.WriteTextAsync("victim", "after");
        Assert.Equal("after", (await store.TryReadTextAsync("victim"))?.Text);
    }

    [Fact]
    public async Task CountingUpInSeveralProcessesLosesNoCount()
    {
        var store = new FolderBlobStore(_folder.Path);
        await store.WriteTextAsync("counter", "0");
        using var first = new ChildProcess("count", _folder.Path);
        using var second = new ChildProcess("count", _folder.Path);
        using var third = new ChildProcess("count", _folder.Path);
        await Task.WhenAll(first.WaitAsync(), second.WaitAsync(), third.WaitAsync());

        Assert.Equal("150", (await store.TryReadTextAsync("counter"))?.Text);
    }
}
