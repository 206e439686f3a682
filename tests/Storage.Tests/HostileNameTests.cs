using FsCheck;
using FsCheck.Fluent;
using LlmPipeline.Fakes;

namespace LlmPipeline.Storage.Tests;

public sealed class HostileNameTests : IDisposable
{
    private static readonly string[] Pieces =
    [
        "..", ".", "/", "\\", "%2e", "%2E%2e", "%2f", "\0", "~", "a", "runs", "r100", "-", "_", "C:", "//", "\n", "\u202e", "\uff0e\uff0e", "\u2215", "\u0430", "\ud800", " ", ".store", "*", new('x', 241),
    ];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void NoNameReachesTheDiskOutsideTheStoreOrInsideItsOwnFolder()
    {
        var root = Path.Combine(_folder.Path, "inner", "store");
        var store = new FolderBlobStore(root);
        var locks = Path.Combine(root, ".store", "locks");

        Prop.ForAll(Arb.From(Names), name =>
        {
            bool isValid;
            try
            {
                store.WriteTextAsync(name, "x").GetAwaiter().GetResult();
                isValid = true;
            }
            catch (ArgumentException)
            {
                isValid = false;
            }
            catch (IOException) when (BlobName.IsValid(name))
            {
                // A file stands where this name needs a folder, or the other way round.
                isValid = true;
            }

            Assert.Equal(isValid, IsAllowed(name));
            var files = Directory.EnumerateFiles(_folder.Path, "*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0 }).ToList();
            Assert.All(files, f => Assert.True(IsLock(f) || (f.StartsWith(root + "/", StringComparison.Ordinal) && IsAllowed(f[(root.Length + 1)..])), f));
            if (isValid)
            {
                store.DeleteAsync(name).GetAwaiter().GetResult();
            }
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(2000));

        bool IsLock(string path) => Path.GetDirectoryName(path) == locks && Path.GetFileName(path) is { Length: 3 } file && file.All(char.IsAsciiHexDigitLower);
    }

    [Fact]
    public void EveryOperationRefusesWhatIsNoName()
    {
        var store = new FolderBlobStore(Path.Combine(_folder.Path, "inner", "store"));
        File.WriteAllText(Path.Combine(_folder.Path, "secret"), "x");
        foreach (var name in new[] { "", "../secret", "../../secret", "a/../../../secret", "/etc/passwd", "a//b", "a/", "/a", "a\0b", "%2e%2e/a", "a\\b", new string('a', 300), "r\u043ens/a", ".store/lock" })
        {
            Assert.ThrowsAny<ArgumentException>(() => { _ = store.OpenReadAsync(name); });
            Assert.ThrowsAny<ArgumentException>(() => { _ = store.CreateAsync(name); });
            Assert.ThrowsAny<ArgumentException>(() => { _ = store.TryGetPropertiesAsync(name); });
            Assert.ThrowsAny<ArgumentException>(() => { _ = store.TryGetLocalPath(name); });
            Assert.ThrowsAny<ArgumentException>(() => { _ = store.TryAcquireLeaseAsync(name, TimeSpan.FromSeconds(15)); });
            Assert.ThrowsAny<ArgumentException>(() => store.DeleteAsync(name).GetAwaiter().GetResult());
            Assert.ThrowsAny<ArgumentException>(() => store.CreateDirectory(name));
            if (name is not ("" or "a/"))
            {
                Assert.ThrowsAny<ArgumentException>(() => store.ListAsync(name).ToBlockingEnumerable().ToList());
            }
        }

        Assert.Equal("x", File.ReadAllText(Path.Combine(_folder.Path, "secret")));
    }

    [Fact]
    public void NoIdHasAnythingButSmallLettersDigitsAndHyphens() =>
        Prop.ForAll(Arb.From(Names), name =>
        {
            var allowed = name.Length is >= 4 and <= 63 && name.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-');
            Assert.Equal(allowed, ResourceName.IsId(name));
            Assert.Equal(allowed, TryParse(() => ResourceName.IdOf($"runs/{name}", "runs")));
            Assert.Equal(allowed, TryParse(() => ResourceName.ParseCheckpoint($"runs/{name}/checkpoints/00000001")));
            Assert.Equal(allowed, TryParse(() => ResourceName.ParseModel($"models/{name}/versions/1")));
            Assert.False(TryParse(() => ResourceName.ParseModel($"models/m100/versions/{name}0/")));
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(20_000));

    private static Gen<string> Names => Gen.OneOf(
        Gen.ArrayOf(Gen.Elements(Pieces)).Select(string.Concat),
        Gen.ArrayOf(Gen.Elements("abz019-".ToCharArray()), 4).Select(c => new string(c)),
        ArbMap.Default.GeneratorFor<NonNull<string>>().Select(s => s.Get));

    // Written in another way than BlobName does it.
    private static bool IsAllowed(string name) =>
        name.Length is > 0 and <= 240 && name.Split('/').All(s => s.Length > 0 && s[0] != '.' && s.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-'));

    private static bool TryParse(Action parse)
    {
        try
        {
            parse();
            return true;
        }
        catch (InvalidResourceNameException)
        {
            return false;
        }
    }
}
