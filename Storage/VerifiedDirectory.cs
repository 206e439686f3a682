using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;

namespace LlmPipeline.Storage;

/// <summary>Local copies of committed directories, checked against their manifests.</summary>
internal static class VerifiedDirectory
{
    private static readonly ConcurrentDictionary<(string Path, long Length, DateTime Time), string> Verified = new();

    /// <summary>Where downloads go: <c>LLMPIPELINE_CACHE</c>, or a folder of the user's cache.</summary>
    public static string CacheFolder => Environment.GetEnvironmentVariable("LLMPIPELINE_CACHE") is { Length: > 0 } folder
        ? folder
        : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.Create), "llmpipeline", "cache");

    public static async Task<string> GetAsync(IBlobStore store, string directory, bool anew, CancellationToken cancellationToken)
    {
        var (manifest, text) = await ManifestAsync(store, directory, needsChecksum: anew, cancellationToken);
        if (store.TryGetLocalPath($"{directory}/{BlobStoreExtensions.ManifestFile}") is { } path)
        {
            var folder = Path.GetDirectoryName(path)!;
            await VerifyAsync(folder, directory, manifest, anew, cancellationToken);
            return folder;
        }

        return await DownloadAsync(store, directory, manifest, text, anew, cancellationToken);
    }

    public static async Task CheckAsync(IBlobStore store, string directory, CancellationToken cancellationToken)
    {
        var (manifest, _) = await ManifestAsync(store, directory, needsChecksum: true, cancellationToken);
        foreach (var file in manifest.Files)
        {
            try
            {
                await using var stream = await store.OpenReadAsync($"{directory}/{file.Name}", cancellationToken);
                Compare(directory, file, stream.Length, stream.Length == file.Length ? Convert.ToHexStringLower(await SHA256.HashDataAsync(stream, cancellationToken)) : "");
            }
            catch (BlobNotFoundException)
            {
                throw Missing(directory, file);
            }
        }
    }

    private static async Task<(DirectoryManifest Manifest, string Text)> ManifestAsync(IBlobStore store, string directory, bool needsChecksum, CancellationToken cancellationToken)
    {
        var (text, _) = await store.TryReadTextAsync($"{directory}/{BlobStoreExtensions.ManifestFile}", cancellationToken) ?? throw new BlobNotFoundException(directory);
        var manifest = DirectoryManifest.Parse(directory, text);
        return manifest.Checksum is null && needsChecksum
            ? throw new CorruptDirectoryException($"'{directory}/{BlobStoreExtensions.ManifestFile}' has no checksum: it is damaged, or of an older version. Delete '{directory}' and make it again.")
            : (manifest, text);
    }

    private static async Task<string> DownloadAsync(IBlobStore store, string directory, DirectoryManifest manifest, string text, bool anew, CancellationToken cancellationToken)
    {
        var target = Path.Combine(CacheFolder, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text))));
        if (Directory.Exists(target))
        {
            try
            {
                await VerifyAsync(target, directory, manifest, anew, cancellationToken);
                return target;
            }
            catch (CorruptDirectoryException)
            {
                Directory.Delete(target, recursive: true);
            }
        }

        var temporary = $"{target}.{Guid.NewGuid():N}";
        try
        {
            foreach (var file in manifest.Files)
            {
                var path = Path.Combine(temporary, file.Name);
                Directory.CreateDirectory(Path.GetDirectoryName(path)!);
                await DownloadFileAsync(store, directory, file, path, cancellationToken);
            }

            Directory.CreateDirectory(temporary);
            await File.WriteAllTextAsync(Path.Combine(temporary, BlobStoreExtensions.ManifestFile), text, cancellationToken);
            await VerifyAsync(temporary, directory, manifest, anew, cancellationToken);
            try
            {
                Directory.Move(temporary, target);
            }
            catch (IOException) when (Directory.Exists(target))
            {
                // Another one was faster.
            }

            await VerifyAsync(target, directory, manifest, anew, cancellationToken);
            return target;
        }
        finally
        {
            if (Directory.Exists(temporary))
            {
                Directory.Delete(temporary, recursive: true);
            }
        }
    }

    private static async Task DownloadFileAsync(IBlobStore store, string directory, DirectoryFile file, string path, CancellationToken cancellationToken)
    {
        try
        {
            await using var source = await store.OpenReadAsync($"{directory}/{file.Name}", cancellationToken);
            await using var copy = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, 128 * 1024, useAsync: true);
            await source.CopyToAsync(copy, 1024 * 1024, cancellationToken);
        }
        catch (BlobNotFoundException)
        {
            throw Missing(directory, file);
        }
    }

    private static async Task VerifyAsync(string folder, string directory, DirectoryManifest manifest, bool anew, CancellationToken cancellationToken)
    {
        foreach (var file in manifest.Files)
        {
            var info = new FileInfo(Path.Combine(folder, file.Name));
            if (!info.Exists)
            {
                throw Missing(directory, file);
            }

            Compare(directory, file, info.Length, null);
            var key = (info.FullName, info.Length, info.LastWriteTimeUtc);
            if (anew || !Verified.TryGetValue(key, out var sha256))
            {
                await using var stream = new FileStream(info.FullName, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, 1024 * 1024, useAsync: true);
                sha256 = Convert.ToHexStringLower(await SHA256.HashDataAsync(stream, cancellationToken));
                if (sha256 == file.Sha256)
                {
                    if (Verified.Count >= 10_000)
                    {
                        Verified.Clear();
                    }

                    Verified[key] = sha256;
                }
            }

            Compare(directory, file, info.Length, sha256);
        }
    }

    private static void Compare(string directory, DirectoryFile file, long length, string? sha256)
    {
        if (length != file.Length)
        {
            throw new CorruptDirectoryException($"'{directory}/{file.Name}' is damaged: it has {length} bytes, its manifest says {file.Length}. Delete '{directory}' and make it again.");
        }

        if (sha256 is not null && sha256 != file.Sha256)
        {
            throw new CorruptDirectoryException($"'{directory}/{file.Name}' is damaged: its SHA-256 is not that of its manifest. Delete '{directory}' and make it again.");
        }
    }

    private static CorruptDirectoryException Missing(string directory, DirectoryFile file) =>
        new($"'{directory}/{file.Name}' is missing, though the manifest names it. Delete '{directory}' and make it again.");
}
