using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace LlmPipeline.Storage;

/// <summary>The last-written file of a directory.</summary>
/// <param name="Files">Every file, with length and SHA-256.</param>
/// <param name="Properties">What the writer added.</param>
public sealed record DirectoryManifest(IReadOnlyList<DirectoryFile> Files, JsonObject Properties)
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        NewLine = "\n",
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    };

    /// <summary>SHA-256 of the manifest as it is without this line, lower-case hexadecimal; null in one of an older version.</summary>
    public string? Checksum { get; init; }

    internal string ToJson() => Text(this with { Checksum = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(Text(this with { Checksum = null })))) });

    private static string Text(DirectoryManifest manifest) => JsonSerializer.Serialize(manifest, Json) + "\n";

    /// <summary>Reads a manifest; its file names are as little trusted as any other name.</summary>
    /// <exception cref="CorruptDirectoryException">The text is not a manifest, or not the one that was written.</exception>
    internal static DirectoryManifest Parse(string directory, string text)
    {
        try
        {
            var manifest = JsonSerializer.Deserialize<DirectoryManifest>(text, Json);
            if (manifest is not { Files: not null, Properties: not null })
            {
                throw new JsonException("'files' or 'properties' is missing");
            }

            foreach (var file in manifest.Files)
            {
                BlobName.Validate(file?.Name!);
                if (file!.Length < 0 || file.Sha256 is not { Length: 64 })
                {
                    throw new JsonException($"'{file.Name}' has no valid length and SHA-256");
                }
            }

            if (manifest.Checksum is not null && manifest.ToJson() != text)
            {
                throw new JsonException("it is not what its checksum says");
            }

            return manifest;
        }
        catch (Exception exception) when (exception is JsonException or ArgumentException or NotSupportedException)
        {
            throw new CorruptDirectoryException($"'{directory}/manifest.json' is damaged ({exception.Message}). Delete '{directory}' and make it again.");
        }
    }
}

/// <summary>A file of a directory.</summary>
/// <param name="Name">Name within the directory.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Sha256">Lower-case hexadecimal.</param>
public sealed record DirectoryFile(string Name, long Length, string Sha256);

/// <summary>A directory's files are not what its manifest says.</summary>
public sealed class CorruptDirectoryException(string message) : IOException(message);
