namespace LlmPipeline.Storage;

/// <summary>Whole small blobs, and directory-like things that exist once their manifest does.</summary>
public static class BlobStoreExtensions
{
    /// <summary>Reads a whole blob as UTF-8, with its version; null when there is none.</summary>
    public static Task<(string Text, string ETag)?> TryReadTextAsync(this IBlobStore store, string name, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();

    /// <summary>Writes a whole blob as UTF-8 and returns its version.</summary>
    public static Task<string> WriteTextAsync(this IBlobStore store, string name, string text, BlobCondition condition = default, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();

    /// <summary>Begins a directory: files under <paramref name="directory"/>, made to exist by a manifest written last.</summary>
    public static DirectoryWriter CreateDirectory(this IBlobStore store, string directory) => throw new NotImplementedException();

    /// <summary>The manifest of a directory, or null when the directory does not exist (was never committed).</summary>
    public static Task<DirectoryManifest?> TryReadManifestAsync(this IBlobStore store, string directory, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();

    /// <summary>
    /// Makes all files of a committed directory readable at a local path and verifies length and SHA-256 of each against the
    /// manifest: a folder store gives its own folder, other stores are downloaded to a cache (once per content).
    /// </summary>
    /// <exception cref="BlobNotFoundException">The directory does not exist.</exception>
    /// <exception cref="CorruptDirectoryException">A file is missing, has another length or another hash.</exception>
    public static Task<string> GetVerifiedLocalDirectoryAsync(this IBlobStore store, string directory, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();

    /// <summary>Deletes a directory, its manifest first.</summary>
    public static Task DeleteDirectoryAsync(this IBlobStore store, string directory, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();
}

/// <summary>Writes the files of a directory, then its manifest. Nothing exists before <see cref="CommitAsync"/>.</summary>
public sealed class DirectoryWriter
{
    /// <summary>Writes one file; its SHA-256 and length are taken on the way.</summary>
    /// <param name="file">Name within the directory, for example <c>model.safetensors</c>.</param>
    /// <param name="write">Writes the content.</param>
    /// <param name="cancellationToken">Stops the writing.</param>
    public Task WriteAsync(string file, Func<Stream, CancellationToken, Task> write, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();

    /// <summary>Writes one UTF-8 text file.</summary>
    public Task WriteTextAsync(string file, string text, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();

    /// <summary>Writes <c>manifest.json</c>, which makes the directory exist. <paramref name="properties"/> (JSON) goes into it.</summary>
    /// <exception cref="BlobConditionException">The directory exists already and <paramref name="condition"/> says it must not.</exception>
    public Task<DirectoryManifest> CommitAsync(System.Text.Json.Nodes.JsonObject? properties = null, BlobCondition condition = default, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();
}

/// <summary>The last-written file of a directory.</summary>
/// <param name="Files">Every file, with length and SHA-256.</param>
/// <param name="Properties">What the writer added.</param>
public sealed record DirectoryManifest(IReadOnlyList<DirectoryFile> Files, System.Text.Json.Nodes.JsonObject Properties);

/// <summary>A file of a directory.</summary>
/// <param name="Name">Name within the directory.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Sha256">Lower-case hexadecimal.</param>
public sealed record DirectoryFile(string Name, long Length, string Sha256);

/// <summary>A directory's files are not what its manifest says.</summary>
public sealed class CorruptDirectoryException(string message) : IOException(message);
