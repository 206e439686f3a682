using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using LlmPipeline.Storage;

namespace LlmPipeline.Models;

/// <summary>
/// The open weights of a folder: <c>model.safetensors</c>, or the shards that <c>model.safetensors.index.json</c> names, as
/// transformers writes them. Every tensor lies in one shard, the one that the index says.
/// </summary>
internal sealed class WeightFiles : IDisposable
{
    /// <summary>All weights in one file.</summary>
    public const string SingleFile = "model.safetensors";

    /// <summary>Which tensor lies in which shard.</summary>
    public const string IndexFile = "model.safetensors.index.json";

    /// <summary>Bytes of a shard, as in transformers.</summary>
    public const long MaxShardBytes = 5_000_000_000;

    private const string WeightMap = "weight_map";

    private readonly Dictionary<string, SafetensorsFile> _files;
    private readonly Dictionary<string, SafetensorsFile> _fileOf = new(StringComparer.Ordinal);
    private readonly Dictionary<string, SafetensorsTensor> _tensors = new(StringComparer.Ordinal);

    private WeightFiles(string path, Dictionary<string, SafetensorsFile> files) => (Path, _files) = (path, files);

    /// <summary>The file, or the index, for messages.</summary>
    public string Path { get; }

    /// <summary>The tensors of all files.</summary>
    public IReadOnlyDictionary<string, SafetensorsTensor> Tensors => _tensors;

    /// <summary>Names of the files of the weights in a folder.</summary>
    /// <exception cref="InvalidDataException">There are none, or the index cannot be read.</exception>
    public static IReadOnlyList<string> NamesIn(string folder) => Exists(folder, SingleFile) ? [SingleFile]
        : [IndexFile, .. ReadIndex(IndexIn(folder)).Values.Distinct().Order(StringComparer.Ordinal)];

    /// <summary>Opens the weights of a folder.</summary>
    /// <exception cref="InvalidDataException">A file is missing or breaks its format, or index and shards contradict each other; the message names file and tensor.</exception>
    public static WeightFiles Open(string folder)
    {
        var weights = new WeightFiles(Exists(folder, SingleFile) ? System.IO.Path.Combine(folder, SingleFile) : IndexIn(folder), new(StringComparer.Ordinal));
        try
        {
            if (Exists(folder, SingleFile))
            {
                weights.Add(SingleFile, SafetensorsFile.Open(weights.Path));
            }
            else
            {
                weights.OpenShards(folder);
            }

            return weights;
        }
        catch
        {
            weights.Dispose();
            throw;
        }
    }

    /// <summary>Reads a tensor as fp32; see <see cref="SafetensorsFile.Read"/>.</summary>
    public void Read(string name, Span<float> destination) => _fileOf[name].Read(name, destination);

    /// <summary>Writes tensors into one file, or into shards with an index where they have more bytes than the limit.</summary>
    /// <param name="directory">Where to.</param>
    /// <param name="tensors">In the order of the files.</param>
    /// <param name="maxShardBytes">Most bytes of tensors in a file; a larger tensor has a file of its own.</param>
    /// <param name="cancellationToken">Ends the writing.</param>
    public static async Task WriteAsync(DirectoryWriter directory, IReadOnlyList<SafetensorsEntry> tensors, long maxShardBytes, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxShardBytes);
        var metadata = new Dictionary<string, string> { ["format"] = "pt" };
        var shards = new List<List<SafetensorsEntry>>();
        long bytes = 0;
        foreach (var tensor in tensors)
        {
            var length = tensor.Length * sizeof(float);
            if (shards.Count == 0 || bytes + length > maxShardBytes)
            {
                shards.Add([]);
                bytes = 0;
            }

            shards[^1].Add(tensor);
            bytes += length;
        }

        if (shards.Count == 1)
        {
            await directory.WriteAsync(SingleFile, (stream, token) => Safetensors.WriteAsync(stream, tensors, metadata, token), cancellationToken).ConfigureAwait(false);
            return;
        }

        var map = new SortedDictionary<string, JsonNode?>(StringComparer.Ordinal);
        for (var i = 0; i < shards.Count; i++)
        {
            var name = string.Create(CultureInfo.InvariantCulture, $"model-{i + 1:D5}-of-{shards.Count:D5}.safetensors");
            var shard = shards[i];
            await directory.WriteAsync(name, (stream, token) => Safetensors.WriteAsync(stream, shard, metadata, token), cancellationToken).ConfigureAwait(false);
            shard.ForEach(tensor => map[tensor.Name] = name);
        }

        var index = new JsonObject
        {
            ["metadata"] = new JsonObject { ["total_size"] = tensors.Sum(t => t.Length * sizeof(float)) },
            [WeightMap] = new JsonObject(map),
        };
        await directory.WriteTextAsync(IndexFile, index.ToJsonString(ConfigKeys.Indented) + "\n", cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var file in _files.Values)
        {
            file.Dispose();
        }
    }

    private void OpenShards(string folder)
    {
        var index = ReadIndex(Path);
        foreach (var shard in index.GroupBy(t => t.Value, t => t.Key))
        {
            var path = System.IO.Path.Combine(folder, shard.Key);
            if (!File.Exists(path))
            {
                throw new InvalidDataException($"'{path}' is missing: '{Path}' puts '{shard.First()}' and {shard.Count() - 1} other tensors there.");
            }

            Add(shard.Key, SafetensorsFile.Open(path));
        }

        // That no tensor is in two files is checked where they are added.
        foreach (var (tensor, shard) in index)
        {
            if (!_files[shard].Tensors.ContainsKey(tensor))
            {
                var there = _files.FirstOrDefault(f => f.Value.Tensors.ContainsKey(tensor)).Key;
                throw new InvalidDataException($"'{System.IO.Path.Combine(folder, shard)}' has no '{tensor}', though '{Path}' puts it there{(there is null ? "" : $"; '{there}' has it")}. Use the files that were written together.");
            }
        }

        if (_tensors.Keys.FirstOrDefault(name => !index.ContainsKey(name)) is { } unknown)
        {
            var file = _files.First(f => f.Value.Tensors.ContainsKey(unknown)).Key;
            throw new InvalidDataException($"'{System.IO.Path.Combine(folder, file)}' has '{unknown}', which '{Path}' does not know. Use the files that were written together.");
        }
    }

    private void Add(string name, SafetensorsFile file)
    {
        _files.Add(name, file);
        foreach (var (tensor, place) in file.Tensors)
        {
            if (!_tensors.TryAdd(tensor, place))
            {
                var other = _files.First(f => f.Value.Tensors.ContainsKey(tensor)).Key;
                throw new InvalidDataException($"'{tensor}' is in '{other}' and in '{name}' beside '{Path}'. Use the files that were written together.");
            }

            _fileOf.Add(tensor, file);
        }
    }

    // Tensor to shard.
    private static Dictionary<string, string> ReadIndex(string path)
    {
        var map = new Dictionary<string, string>(StringComparer.Ordinal);
        var keys = ConfigKeys.Read(path);
        foreach (var entry in keys.Has(WeightMap) ? keys.Object(WeightMap).Root.EnumerateObject() : throw keys.Wrong(WeightMap, "missing"))
        {
            if (entry.Value.ValueKind != JsonValueKind.String || entry.Value.GetString() is not { Length: > 0 } file || file.AsSpan().ContainsAny('/', '\\') || file.StartsWith('.'))
            {
                throw keys.Wrong($"{WeightMap}['{entry.Name}']", $"{entry.Value.GetRawText()}, not the name of a file beside it");
            }

            if (!map.TryAdd(entry.Name, file))
            {
                throw keys.Wrong($"{WeightMap}['{entry.Name}']", "there twice");
            }
        }

        return map.Count > 0 ? map : throw keys.Wrong(WeightMap, "empty");
    }

    private static bool Exists(string folder, string file) => File.Exists(System.IO.Path.Combine(folder, file));

    private static string IndexIn(string folder) => Exists(folder, IndexFile) ? System.IO.Path.Combine(folder, IndexFile) : throw new InvalidDataException(
        $"'{System.IO.Path.Combine(folder, SingleFile)}' is missing, and so is {IndexFile}: a network has its weights in one file, or in shards with an index.");
}
