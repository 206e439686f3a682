using System.Text;

namespace LlmPipeline.Storage;

/// <summary>Whole small blobs, and directory-like things that exist once their manifest does.</summary>
public static class BlobStoreExtensions
{
    internal const string ManifestFile = "manifest.json";

    /// <summary>Reads a whole blob as UTF-8, with its version; null when there is none.</summary>
    public static async Task<(string Text, string ETag)?> TryReadTextAsync(this IBlobStore store, string name, CancellationToken cancellationToken = default)
    {
        var before = await store.TryGetPropertiesAsync(name, cancellationToken);
        while (before is not null)
        {
            string? text = null;
            try
            {
                await using var stream = await store.OpenReadAsync(name, cancellationToken);
                using var reader = new StreamReader(stream, Encoding.UTF8);
                text = await reader.ReadToEndAsync(cancellationToken);
            }
            catch (BlobNotFoundException)
            {
            }

            // Text and version belong together when the version is the same on both sides of the reading.
            var after = await store.TryGetPropertiesAsync(name, cancellationToken);
            if (text is not null && after?.ETag == before.ETag)
            {
                return (text, before.ETag);
            }

            before = after;
        }

        return null;
    }

    /// <summary>Writes a whole blob as UTF-8 and returns its version.</summary>
    public static async Task<string> WriteTextAsync(this IBlobStore store, string name, string text, BlobCondition condition = default, CancellationToken cancellationToken = default)
    {
        await using var writer = await store.CreateAsync(name, condition, cancellationToken);
        await writer.Stream.WriteAsync(Encoding.UTF8.GetBytes(text), cancellationToken);
        return await writer.CommitAsync(cancellationToken);
    }

    /// <summary>Begins a directory: files under <paramref name="directory"/>, made to exist by a manifest written last.</summary>
    public static DirectoryWriter CreateDirectory(this IBlobStore store, string directory) => new(store, directory);

    /// <summary>The manifest of a directory, or null when the directory does not exist (was never committed).</summary>
    /// <exception cref="CorruptDirectoryException">There is one, but it cannot be read.</exception>
    public static async Task<DirectoryManifest?> TryReadManifestAsync(this IBlobStore store, string directory, CancellationToken cancellationToken = default) =>
        await store.TryReadTextAsync($"{directory}/{ManifestFile}", cancellationToken) is (var text, _) ? DirectoryManifest.Parse(directory, text) : null;

    /// <summary>
    /// Makes all files of a committed directory readable at a local path and verifies length and SHA-256 of each against the
    /// manifest: a folder store gives its own folder, other stores are downloaded to a cache (once per content). A file found
    /// good is not hashed again by the same process while its length and modification time stay.
    /// </summary>
    /// <exception cref="BlobNotFoundException">The directory does not exist.</exception>
    /// <exception cref="CorruptDirectoryException">A file is missing, has another length or another hash.</exception>
    public static Task<string> GetVerifiedLocalDirectoryAsync(this IBlobStore store, string directory, CancellationToken cancellationToken = default) =>
        VerifiedDirectory.GetAsync(store, directory, anew: false, cancellationToken);

    /// <summary>The same; with <paramref name="anew"/> every file is hashed, and a manifest without a checksum of its own is refused.</summary>
    public static Task<string> GetVerifiedLocalDirectoryAsync(this IBlobStore store, string directory, bool anew, CancellationToken cancellationToken = default) =>
        VerifiedDirectory.GetAsync(store, directory, anew, cancellationToken);

    /// <summary>Reads all files of a committed directory and compares them with its manifest, which has to have a checksum of its own.</summary>
    /// <exception cref="BlobNotFoundException">The directory does not exist.</exception>
    /// <exception cref="CorruptDirectoryException">The manifest is damaged, or a file is missing, has another length or another hash.</exception>
    public static Task VerifyDirectoryAsync(this IBlobStore store, string directory, CancellationToken cancellationToken = default) =>
        VerifiedDirectory.CheckAsync(store, directory, cancellationToken);

    /// <summary>Deletes a directory, its manifest first.</summary>
    public static async Task DeleteDirectoryAsync(this IBlobStore store, string directory, CancellationToken cancellationToken = default)
    {
        await store.DeleteAsync($"{directory}/{ManifestFile}", cancellationToken);
        var names = new List<string>();
        await foreach (var blob in store.ListAsync(directory + "/", cancellationToken))
        {
            names.Add(blob.Name);
        }

        foreach (var name in names)
        {
            await store.DeleteAsync(name, cancellationToken);
        }
    }
}
