using LlmPipeline.Fakes;
using Microsoft.Extensions.Time.Testing;

namespace LlmPipeline.Storage.Tests;

public sealed class FolderBlobStoreTests : BlobStoreContract, IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly FakeTimeProvider _time = new(DateTimeOffset.UtcNow);
    private readonly FolderBlobStore _store;

    public FolderBlobStoreTests() => _store = new FolderBlobStore(Path.Combine(_folder.Path, "store"), _time);

    protected override IBlobStore Store => _store;

    public void Dispose() => _folder.Dispose();

    protected override IBlobStore Reopen() => new FolderBlobStore(Path.Combine(_folder.Path, "store"), _time);

    protected override Task PassTimeAsync(TimeSpan time)
    {
        _time.Advance(time);
        return Task.CompletedTask;
    }

    [Fact]
    public async Task ACommittedBlobHasALocalPath()
    {
        await Store.WriteTextAsync("a/b", "x");

        Assert.Equal(Path.Combine(_folder.Path, "store", "a", "b"), Store.TryGetLocalPath("a/b"));
    }

    [Fact]
    public async Task FilesThatAreNoBlobsAreNotListed()
    {
        await Store.WriteTextAsync("a", "x");
        var root = Path.Combine(_folder.Path, "store");
        await File.WriteAllTextAsync(Path.Combine(root, ".DS_Store"), "x");
        await File.WriteAllTextAsync(Path.Combine(root, "with space"), "x");
        var outside = Directory.CreateDirectory(Path.Combine(_folder.Path, "outside"));
        await File.WriteAllTextAsync(Path.Combine(outside.FullName, "secret"), "x");
        Directory.CreateSymbolicLink(Path.Combine(root, "link"), outside.FullName);

        Assert.Equal(["a"], await NamesAsync(""));
    }

    [Fact]
    public async Task DeletingTheLastBlobOfAFolderDeletesTheFolder()
    {
        await Store.WriteTextAsync("a/b/c", "x");
        await Store.DeleteAsync("a/b/c");

        Assert.False(Directory.Exists(Path.Combine(_folder.Path, "store", "a")));
    }

    [Fact]
    public async Task OpeningAStoreDeletesWhatADeadWriterLeftAndNothingElse()
    {
        var temporary = Path.Combine(_folder.Path, "store", ".store", "tmp");
        await using var writer = await Store.CreateAsync("a");
        var live = Assert.Single(Directory.GetFiles(temporary));
        var dead = Path.Combine(temporary, "dead");
        var young = Path.Combine(temporary, "young");
        await File.WriteAllTextAsync(dead, "x");
        await File.WriteAllTextAsync(young, "x");
        File.SetLastWriteTimeUtc(live, DateTime.UtcNow.AddHours(-2));
        File.SetLastWriteTimeUtc(dead, DateTime.UtcNow.AddHours(-2));

        Reopen();

        Assert.Equal([live, young], Directory.GetFiles(temporary).OrderBy(f => f != live));
    }

    [Fact]
    public async Task AFileFoundGoodIsNotReadAgainButAChangedOneIs()
    {
        var writer = Store.CreateDirectory("d");
        await writer.WriteTextAsync("a", "content");
        await writer.CommitAsync();
        var path = Path.Combine(await Store.GetVerifiedLocalDirectoryAsync("d"), "a");

        var time = File.GetLastWriteTimeUtc(path);
        await File.WriteAllTextAsync(path, "CONTENT");
        File.SetLastWriteTimeUtc(path, time);
        await Store.GetVerifiedLocalDirectoryAsync("d");

        File.SetLastWriteTimeUtc(path, time.AddTicks(1));
        await Assert.ThrowsAsync<CorruptDirectoryException>(() => Store.GetVerifiedLocalDirectoryAsync("d"));
    }

    [Fact]
    public void OpenTakesAFolderAndRefusesTheRestWithoutRepeatingIt()
    {
        Assert.IsType<FolderBlobStore>(BlobStore.Open($"folder={_folder.Path}/x"));
        Assert.IsType<AzureBlobStore>(BlobStore.Open("Endpoint=https://account.blob.core.windows.net/;ContainerName=llm"));
        Assert.IsType<AzureBlobStore>(BlobStore.Open("https://account.blob.core.windows.net/"));
        Assert.IsType<AzureBlobStore>(BlobStore.Open("UseDevelopmentStorage=true;ContainerName=llm"));
        foreach (var text in new[] { "", "folder=", "folder= ", "secret", "AccountName=x;AccountKey=secret", "Endpoint=secret", null })
        {
            var error = Assert.Throws<ArgumentException>(() => BlobStore.Open(text!));
            Assert.DoesNotContain("secret", error.Message, StringComparison.Ordinal);
        }
    }
}
