using System.Text;
using System.Text.Json.Nodes;

namespace LlmPipeline.Storage.Tests;

/// <summary>What every store does; run against each of them.</summary>
public abstract class BlobStoreContract
{
    private static readonly TimeSpan LeaseTime = TimeSpan.FromSeconds(15);

    protected abstract IBlobStore Store { get; }

    /// <summary>Another store over the same bytes, as another process has.</summary>
    protected abstract IBlobStore Reopen();

    protected abstract Task PassTimeAsync(TimeSpan time);

    [Fact]
    public async Task ACommittedBlobIsReadBack()
    {
        var eTag = await Store.WriteTextAsync("runs/r100/run.json", "hello");

        Assert.Equal(("hello", eTag), await Reopen().TryReadTextAsync("runs/r100/run.json"));
        var properties = await Store.TryGetPropertiesAsync("runs/r100/run.json");
        Assert.Equal(("runs/r100/run.json", 5L, eTag), (properties!.Name, properties.Length, properties.ETag));
        Assert.InRange(properties.LastModified, DateTimeOffset.UtcNow.AddMinutes(-5), DateTimeOffset.UtcNow.AddMinutes(5));
    }

    [Fact]
    public async Task ABlobThatDoesNotExistIsSaidNotToExist()
    {
        Assert.Null(await Store.TryReadTextAsync("a/none"));
        Assert.Null(await Store.TryGetPropertiesAsync("a/none"));
        Assert.Null(Store.TryGetLocalPath("a/none"));
        Assert.False(await Store.DeleteAsync("a/none"));
        Assert.Equal("a/none", (await Assert.ThrowsAsync<BlobNotFoundException>(() => Store.OpenReadAsync("a/none"))).Name);
    }

    [Fact]
    public async Task AnEmptyBlobExists()
    {
        await Store.WriteTextAsync("empty", "");

        Assert.Equal("", (await Store.TryReadTextAsync("empty"))?.Text);
        Assert.Equal(0, (await Store.TryGetPropertiesAsync("empty"))!.Length);
    }

    [Fact]
    public async Task NothingIsVisibleBeforeTheCommitAndNothingIsLeftWithoutOne()
    {
        await using (var writer = await Store.CreateAsync("a/b"))
        {
            await writer.Stream.WriteAsync(new byte[9 * 1024 * 1024]);
            await writer.Stream.FlushAsync();
            Assert.Null(await Store.TryGetPropertiesAsync("a/b"));
            Assert.Empty(await NamesAsync(""));
        }

        Assert.Null(await Store.TryGetPropertiesAsync("a/b"));
        Assert.Empty(await NamesAsync(""));
    }

    [Fact]
    public async Task AReaderKeepsTheContentItOpened()
    {
        await Store.WriteTextAsync("a", "first");
        await using var stream = await Store.OpenReadAsync("a");
        await Store.WriteTextAsync("a", "second!");

        Assert.Equal("first", await new StreamReader(stream).ReadToEndAsync());
    }

    [Fact]
    public async Task ALargeBlobIsReadBackAndSeeks()
    {
        var bytes = new byte[(17 * 1024 * 1024) + 3];
        new Random(1).NextBytes(bytes);
        await using (var writer = await Store.CreateAsync("large"))
        {
            for (var at = 0; at < bytes.Length; at += 1_000_003)
            {
                await writer.Stream.WriteAsync(bytes.AsMemory(at, Math.Min(1_000_003, bytes.Length - at)));
            }

            await writer.CommitAsync();
        }

        await using var stream = await Store.OpenReadAsync("large");
        Assert.Equal(bytes.Length, stream.Length);
        var read = new MemoryStream();
        await stream.CopyToAsync(read);
        Assert.True(bytes.AsSpan().SequenceEqual(read.ToArray()));

        stream.Seek(12_345_678, SeekOrigin.Begin);
        var part = new byte[1000];
        await stream.ReadExactlyAsync(part);
        Assert.Equal(bytes[12_345_678..12_346_678], part);
    }

    [Fact]
    public async Task EveryCommitChangesTheVersion()
    {
        var versions = new HashSet<string>();
        for (var i = 0; i < 50; i++)
        {
            Assert.True(versions.Add(await Store.WriteTextAsync("a", "same length")));
        }

        await Store.DeleteAsync("a");
        Assert.True(versions.Add(await Store.WriteTextAsync("a", "same length")));
    }

    [Fact]
    public async Task ConditionsHold()
    {
        var first = await Store.WriteTextAsync("a", "1", BlobCondition.NotExists);
        await Assert.ThrowsAsync<BlobConditionException>(() => Store.WriteTextAsync("a", "x", BlobCondition.NotExists));

        var second = await Store.WriteTextAsync("a", "2", BlobCondition.Matches(first));
        await Assert.ThrowsAsync<BlobConditionException>(() => Store.WriteTextAsync("a", "x", BlobCondition.Matches(first)));
        Assert.Equal(("2", second), await Store.TryReadTextAsync("a"));

        await Store.DeleteAsync("a");
        await Assert.ThrowsAsync<BlobConditionException>(() => Store.WriteTextAsync("a", "x", BlobCondition.Matches(second)));
        Assert.Null(await Store.TryReadTextAsync("a"));
    }

    [Fact]
    public async Task OfManyWritersWithOneConditionExactlyOneWins()
    {
        for (var round = 0; round < 5; round++)
        {
            var name = $"race/{round}";
            var stores = new[] { Store, Reopen() };
            var outcomes = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(async () =>
            {
                try
                {
                    await stores[i % 2].WriteTextAsync(name, $"writer {i}", BlobCondition.NotExists);
                    return i;
                }
                catch (BlobConditionException)
                {
                    return -1;
                }
            })));
            var winner = Assert.Single(outcomes, o => o >= 0);
            Assert.Equal($"writer {winner}", (await Store.TryReadTextAsync(name))?.Text);
        }
    }

    [Fact]
    public async Task CountingUpWithConditionsLosesNoCount()
    {
        await Store.WriteTextAsync("counter", "0");
        var stores = new[] { Store, Reopen() };
        await Task.WhenAll(Enumerable.Range(0, 4).Select(i => Task.Run(async () =>
        {
            for (var done = 0; done < 10;)
            {
                try
                {
                    var (text, eTag) = (await stores[i % 2].TryReadTextAsync("counter"))!.Value;
                    await stores[i % 2].WriteTextAsync("counter", $"{int.Parse(text, System.Globalization.CultureInfo.InvariantCulture) + 1}", BlobCondition.Matches(eTag));
                    done++;
                }
                catch (BlobConditionException)
                {
                }
            }
        })));

        Assert.Equal("40", (await Store.TryReadTextAsync("counter"))?.Text);
    }

    [Fact]
    public async Task ListsByPrefixInOrdinalOrder()
    {
        string[] names = ["runs/r100/run.json", "runs/r100/metrics/2", "runs/r100/metrics/10", "runs/r1000/run.json", "runs-2", "Runs/x", "a"];
        foreach (var name in names)
        {
            await Store.WriteTextAsync(name, name);
        }

        Assert.Equal(names.Order(StringComparer.Ordinal), await NamesAsync(""));
        Assert.Equal(["runs/r100/metrics/10", "runs/r100/metrics/2", "runs/r100/run.json"], await NamesAsync("runs/r100/"));
        Assert.Equal(["runs/r100/metrics/10", "runs/r100/metrics/2", "runs/r100/run.json", "runs/r1000/run.json"], await NamesAsync("runs/r100"));
        Assert.Equal(["runs-2"], await NamesAsync("runs-"));
        Assert.Equal(["a"], await NamesAsync("a"));
        Assert.Empty(await NamesAsync("a/"));
        Assert.Empty(await NamesAsync("nothing/"));
        var listed = await Store.ListAsync("runs/r100/run").SingleAsync();
        Assert.Equal(await Store.TryGetPropertiesAsync("runs/r100/run.json"), listed);
    }

    [Fact]
    public async Task ADeletedBlobIsGone()
    {
        await Store.WriteTextAsync("a/b/c", "1");
        await Store.WriteTextAsync("a/d", "2");

        Assert.True(await Store.DeleteAsync("a/b/c"));
        Assert.False(await Store.DeleteAsync("a/b/c"));
        Assert.Equal(["a/d"], await NamesAsync(""));
        await Store.WriteTextAsync("a/b/c", "3");
        Assert.Equal(["a/b/c", "a/d"], await NamesAsync(""));
    }

    [Fact]
    public async Task ALeaseIsExclusiveUntilReleased()
    {
        await using (var lease = await Store.TryAcquireLeaseAsync("coordinator", LeaseTime))
        {
            Assert.NotNull(lease);
            Assert.Null(await Reopen().TryAcquireLeaseAsync("coordinator", LeaseTime));
            Assert.True(await lease.RenewAsync());
            await using var other = await Store.TryAcquireLeaseAsync("coordinator-2", LeaseTime);
            Assert.NotNull(other);
        }

        await using var next = await Reopen().TryAcquireLeaseAsync("coordinator", LeaseTime);
        Assert.NotNull(next);
        Assert.Empty(await NamesAsync(""));
    }

    [Fact]
    public async Task OfManyClaimantsExactlyOneGetsTheLease()
    {
        var leases = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(() => (i % 2 == 0 ? Store : Reopen()).TryAcquireLeaseAsync("x", LeaseTime))));

        await Assert.Single(leases, l => l is not null)!.DisposeAsync();
    }

    [Fact]
    public async Task ALeaseThatIsNotRenewedEndsByItself()
    {
        var abandoned = await Store.TryAcquireLeaseAsync("coordinator", LeaseTime);
        Assert.NotNull(abandoned);
        await PassTimeAsync(LeaseTime + TimeSpan.FromSeconds(1));

        await using var next = await Reopen().TryAcquireLeaseAsync("coordinator", LeaseTime);
        Assert.NotNull(next);
        Assert.False(await abandoned.RenewAsync());
        await abandoned.DisposeAsync();
        Assert.True(await next.RenewAsync());
    }

    [Theory]
    [InlineData(14.9)]
    [InlineData(61)]
    public async Task ALeaseLasts15To60Seconds(double seconds) =>
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => Store.TryAcquireLeaseAsync("x", TimeSpan.FromSeconds(seconds)));

    [Fact]
    public async Task ADirectoryExistsOnceItsManifestDoes()
    {
        var writer = Store.CreateDirectory("models/m100/versions/1");
        await writer.WriteTextAsync("config.json", "{}");
        await writer.WriteAsync("parts/model.safetensors", async (stream, token) => await stream.WriteAsync(new byte[100_000], token));
        Assert.Null(await Store.TryReadManifestAsync("models/m100/versions/1"));
        await Assert.ThrowsAsync<BlobNotFoundException>(() => Store.GetVerifiedLocalDirectoryAsync("models/m100/versions/1"));

        await writer.CommitAsync(new JsonObject { ["run"] = "runs/r100" }, BlobCondition.NotExists);

        var manifest = await Reopen().TryReadManifestAsync("models/m100/versions/1");
        Assert.Equal("runs/r100", (string?)manifest!.Properties["run"]);
        Assert.Equal(
            [
                new DirectoryFile("config.json", 2, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
                new DirectoryFile("parts/model.safetensors", 100_000, Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(new byte[100_000]))),
            ],
            manifest.Files);
        await Assert.ThrowsAsync<BlobConditionException>(() => writer.CommitAsync(null, BlobCondition.NotExists));

        var folder = await Reopen().GetVerifiedLocalDirectoryAsync("models/m100/versions/1");
        Assert.Equal("{}", await File.ReadAllTextAsync(Path.Combine(folder, "config.json")));
        Assert.Equal(100_000, new FileInfo(Path.Combine(folder, "parts", "model.safetensors")).Length);
        Assert.Equal(folder, await Store.GetVerifiedLocalDirectoryAsync("models/m100/versions/1"));

        await Store.DeleteDirectoryAsync("models/m100/versions/1");
        Assert.Empty(await NamesAsync(""));
    }

    [Fact]
    public async Task ADamagedFileOfADirectoryIsFound()
    {
        foreach (var (damage, expected) in new[] { ("flip", "SHA-256"), ("cut", "bytes"), ("delete", "missing") })
        {
            var directory = $"datasets/{damage}-{Guid.NewGuid():N}";
            var content = Encoding.UTF8.GetBytes($"{directory} some content");
            var writer = Store.CreateDirectory(directory);
            await writer.WriteAsync("shard", (stream, token) => stream.WriteAsync(content, token).AsTask());
            await writer.CommitAsync();

            content[5] ^= 4;
            if (damage == "delete")
            {
                await Store.DeleteAsync($"{directory}/shard");
            }
            else
            {
                await Store.WriteTextAsync($"{directory}/shard", Encoding.UTF8.GetString(content, 0, damage == "cut" ? 10 : content.Length));
            }

            var error = await Assert.ThrowsAsync<CorruptDirectoryException>(() => Reopen().GetVerifiedLocalDirectoryAsync(directory));
            Assert.Contains($"'{directory}/shard'", error.Message, StringComparison.Ordinal);
            Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("not json")]
    [InlineData("null")]
    [InlineData("{}")]
    [InlineData("""{"files":[{"name":"../../etc/passwd","length":1,"sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}],"properties":{}}""")]
    [InlineData("""{"files":[{"name":"a","length":-1,"sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}],"properties":{}}""")]
    [InlineData("""{"files":[{"name":"a","length":1}],"properties":{}}""")]
    [InlineData("""{"files":[null],"properties":{}}""")]
    public async Task ADamagedManifestIsFound(string text)
    {
        await Store.WriteTextAsync("datasets/d100/manifest.json", text);

        var error = await Assert.ThrowsAsync<CorruptDirectoryException>(() => Store.TryReadManifestAsync("datasets/d100"));
        Assert.Contains("'datasets/d100/manifest.json'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AFileOfADirectoryIsWrittenOnceAndAFailedOneMayBeRepeated()
    {
        var writer = Store.CreateDirectory("d");
        await Assert.ThrowsAsync<InvalidDataException>(() => writer.WriteAsync("a", (_, _) => throw new InvalidDataException()));
        await writer.WriteTextAsync("a", "1");
        await Assert.ThrowsAsync<ArgumentException>(() => writer.WriteTextAsync("a", "2"));
        await Assert.ThrowsAsync<ArgumentException>(() => writer.WriteTextAsync("manifest.json", "2"));
        await Assert.ThrowsAsync<ArgumentException>(() => writer.WriteTextAsync("../a", "2"));

        Assert.Equal("a", Assert.Single((await writer.CommitAsync()).Files).Name);
    }

    protected async Task<List<string>> NamesAsync(string prefix) => await Store.ListAsync(prefix).Select(b => b.Name).ToListAsync();
}
