using System.Runtime.Versioning;
using System.Security.Cryptography;

namespace LlmPipeline.Models;

/// <summary>Loads a native library that exists only in memory.</summary>
[SupportedOSPlatform("linux")]
internal static class GeneratedLibrary
{
    /// <summary>
    /// Writes a library to the user's cache, once per content, and loads it; where the cache cannot be written to or executed
    /// from, to a folder that is deleted after loading. Any number of processes may do this at the same time.
    /// </summary>
    /// <param name="file">Name of the file.</param>
    /// <param name="content">The library.</param>
    /// <param name="load">Loads a path; throws <see cref="DllNotFoundException"/> where that fails.</param>
    /// <param name="cache">The cache; null is the user's.</param>
    public static nint Load(string file, byte[] content, Func<string, nint> load, string? cache = null)
    {
        try
        {
            var key = Convert.ToHexStringLower(SHA256.HashData(content))[..16];
            return load(WriteOnce(Path.Combine(cache ?? CacheFolder(), key), file, content));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or DllNotFoundException)
        {
            var folder = Directory.CreateTempSubdirectory("llmpipeline-");
            try
            {
                return load(WriteOnce(folder.FullName, file, content));
            }
            finally
            {
                folder.Delete(recursive: true);
            }
        }
    }

    private static string CacheFolder()
    {
        var cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
        if (string.IsNullOrEmpty(cache) || !Path.IsPathRooted(cache))
        {
            var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
            cache = home.Length > 0 ? Path.Combine(home, ".cache") : throw new IOException("There is no home folder.");
        }

        return Path.Combine(cache, "llmpipeline", "native");
    }

    private static string WriteOnce(string folder, string file, byte[] content)
    {
        var path = Path.Combine(folder, file);
        Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        if (!File.Exists(path) || !File.ReadAllBytes(path).AsSpan().SequenceEqual(content))
        {
            var temporary = Path.Combine(folder, $".{Guid.NewGuid():n}");
            File.WriteAllBytes(temporary, content);
            File.Move(temporary, path, overwrite: true);
        }

        return path;
    }
}
