using System.Text;
using Azure.Storage.Blobs;
using LlmPipeline.Fakes;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Tests.Sources;

public sealed class AzureSourceTests(Azurite azurite) : IClassFixture<Azurite>, IDisposable
{
    private readonly TemporaryFolder _cache = new();

    public void Dispose() => _cache.Dispose();

    [Fact]
    public async Task BlobsAreFoundByPrefixAndGlobAndReadFromTheCache()
    {
        Assert.SkipUnless(NpmPackage.IsWanted, "Set LLMPIPELINE_NPM=1 to test against Azurite.");
        var container = new BlobServiceClient(azurite.ConnectionString).GetBlobContainerClient("texts");
        await container.CreateIfNotExistsAsync();
        foreach (var (name, text) in new[] { ("d/b.jsonl", "{\"text\":\"b\"}"), ("d/a.txt", "a"), ("d/e/c d.txt", "c"), ("x.txt", "x"), ("d/image.png", "?") })
        {
            await container.GetBlobClient(name).UploadAsync(new BinaryData(Encoding.UTF8.GetBytes(text)), overwrite: true);
        }

        var options = new SourceOptions { CacheFolder = _cache.Path, AzureConnection = azurite.ConnectionString };
        Assert.Equal(["a", "b", "c"], (await SourceReading.ReadAsync(["az://texts/d/"], options: options)).Documents);
        Assert.Equal(["a", "c"], (await SourceReading.ReadAsync(["az://texts/d/**/*.txt"], options: options)).Documents);
        Assert.Equal(3, Directory.GetFiles(_cache.Path).Count(f => !f.EndsWith(".lock", StringComparison.Ordinal)));

        var files = await SourceFiles.FindAsync(["az://texts/x.txt"], options);
        await container.GetBlobClient("x.txt").UploadAsync(new BinaryData("y"u8.ToArray()), overwrite: true);
        var changed = await Assert.ThrowsAsync<TextSourceException>(() => SourceReading.ReadAsync(files, options: options));
        Assert.Equal("'az://texts/x.txt' changed after the dataset was created. Create it again.", changed.Message);

        var missing = await Assert.ThrowsAsync<TextSourceException>(() => SourceFiles.FindAsync(["az://nothing/x"], options));
        Assert.Contains("'az://nothing/x' cannot be read: 404 ContainerNotFound.", missing.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("AccountKey", missing.Message, StringComparison.Ordinal);
    }
}
