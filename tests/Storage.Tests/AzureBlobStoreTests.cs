using LlmPipeline.Fakes;

namespace LlmPipeline.Storage.Tests;

public sealed class AzureBlobStoreTests : BlobStoreContract, IClassFixture<Azurite>
{
    private readonly string _connectionString;

    public AzureBlobStoreTests(Azurite azurite)
    {
        Assert.SkipUnless(NpmPackage.IsWanted, "Set LLMPIPELINE_NPM=1 to test against Azurite (npm installs it into the temporary folder).");
        _connectionString = $"{azurite.ConnectionString}ContainerName=test-{Guid.NewGuid():N}";
        Store = BlobStore.Open(_connectionString);
    }

    protected override IBlobStore Store { get; }

    protected override IBlobStore Reopen() => BlobStore.Open(_connectionString);

    protected override Task PassTimeAsync(TimeSpan time) => Task.Delay(time);

    [Fact]
    public async Task AnOverwrittenBlobFailsALongReadInsteadOfMixingVersions()
    {
        await WriteAsync(1);
        await using var stream = await Store.OpenReadAsync("large");
        await stream.ReadExactlyAsync(new byte[100]);
        await WriteAsync(2);

        await Assert.ThrowsAnyAsync<Exception>(async () => await stream.CopyToAsync(Stream.Null));

        async Task WriteAsync(byte value)
        {
            var bytes = new byte[9 * 1024 * 1024];
            bytes.AsSpan().Fill(value);
            await using var writer = await Store.CreateAsync("large");
            await writer.Stream.WriteAsync(bytes);
            await writer.CommitAsync();
        }
    }
}
