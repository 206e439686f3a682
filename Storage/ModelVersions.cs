using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;

namespace LlmPipeline.Storage;

/// <summary>The published versions of a model: <c>models/{m}/versions/{v}</c>, numbered from 1.</summary>
public static class ModelVersions
{
    private const string ManifestSuffix = "/" + BlobStoreExtensions.ManifestFile;

    /// <summary>Those whose manifest is there, damaged or not, in any order.</summary>
    /// <param name="store">Where they lie.</param>
    /// <param name="model">Format: <c>models/{m}</c>.</param>
    /// <param name="cancellationToken">Ends the listing.</param>
    public static async IAsyncEnumerable<(int Number, string Name)> ListAsync(IBlobStore store, string model, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(store);
        await foreach (var blob in store.ListAsync($"{model}/versions/", cancellationToken))
        {
            if (blob.Name.EndsWith(ManifestSuffix, StringComparison.Ordinal) && blob.Name.Split('/') is [_, _, _, var text, _]
                && int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
            {
                yield return (number, blob.Name[..^ManifestSuffix.Length]);
            }
        }
    }

    /// <summary>Makes the next version. Who publishes waits for whoever is publishing the same model.</summary>
    /// <param name="store">Where to.</param>
    /// <param name="model">Format: <c>models/{m}</c>.</param>
    /// <param name="isMade">Whether a version is the one that is to be made, from an earlier try.</param>
    /// <param name="write">Writes the files, and returns the properties of the manifest.</param>
    /// <param name="time">Clock.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>Its name.</returns>
    /// <exception cref="IOException">Storage failed, or did not answer for so long that somebody else may publish by now.</exception>
    public static async Task<string> PublishAsync(
        IBlobStore store, string model, Func<string, Task<bool>> isMade, Func<DirectoryWriter, CancellationToken, Task<JsonObject>> write, TimeProvider time, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(store);
        ArgumentNullException.ThrowIfNull(isMade);
        ArgumentNullException.ThrowIfNull(write);

        // Of two who write the files of one version, the first would commit those of the second.
        await using var publishing = await HeldLease.TakeAsync(store, $"{model}/publishing", time, cancellationToken);
        var version = 1;
        await foreach (var (number, known) in ListAsync(store, model, cancellationToken))
        {
            if (await isMade(known))
            {
                return known;
            }

            version = Math.Max(version, number + 1);
        }

        for (; ; version++)
        {
            var name = string.Create(CultureInfo.InvariantCulture, $"{model}/versions/{version}");
            try
            {
                var directory = store.CreateDirectory(name);
                JsonObject properties = [];
                await publishing.WhileHeldAsync(async token => properties = await write(directory, token), cancellationToken);
                await directory.CommitAsync(properties, BlobCondition.NotExists, cancellationToken);
                return name;
            }
            catch (BlobConditionException)
            {
                // Somebody else published this version in the meantime.
            }
        }
    }
}
