using System.ComponentModel.DataAnnotations;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Gateway;

/// <summary>Settings of the Gateway; section "Gateway".</summary>
internal sealed record GatewayOptions
{
    /// <summary>Name of the configuration section.</summary>
    public const string Section = "Gateway";

    /// <summary>Where models compute: "auto", "cpu", "cuda" or "cuda:N".</summary>
    [Required]
    public string Device { get; init; } = "cpu";

    /// <summary>Seconds between two looks for new model versions.</summary>
    [Range(0.1, 3600)]
    public double PollSeconds { get; init; } = 1;

    /// <summary>Models held in memory; the least recently used one makes room.</summary>
    [Range(1, 1000)]
    public int MaxLoadedModels { get; init; } = 4;

    /// <summary>Texts generated at once, token by token in turn.</summary>
    [Range(1, 1000)]
    public int MaxActive { get; init; } = 8;

    /// <summary>Requests that wait for their turn; more are refused.</summary>
    [Range(0, 100_000)]
    public int MaxQueue { get; init; } = 64;

    /// <summary>Most tokens that one request may ask for.</summary>
    [Range(1, 1_000_000)]
    public int MaxTokens { get; init; } = 4096;

    /// <summary>Longest prompt, in characters. What exceeds the model's context is cut at the front; what exceeds this is refused.</summary>
    [Range(1, 100_000_000)]
    public int MaxPromptCharacters { get; init; } = 200_000;

    /// <summary>Largest REST request body, in bytes.</summary>
    [Range(1024, 100_000_000)]
    public int MaxBodyBytes { get; init; } = 1 << 20;

    /// <summary>Longest time one request may take, waiting included, in seconds.</summary>
    [Range(1, 86_400)]
    public double MaxSeconds { get; init; } = 300;

    /// <summary>Folders that imported models may be in, for a Gateway that others can reach. Empty: whatever it can read.</summary>
    public string[] ImportRoots { get; init; } = [];

    /// <summary>Time that running answers get to end when the process is told to stop, in seconds.</summary>
    [Range(0, 600)]
    public double StopSeconds { get; init; } = 5;

    /// <summary>Whether <see cref="ImportRoots"/> allow a file or folder.</summary>
    /// <param name="path">A full path.</param>
    public bool MayImport(string path) => ImportRoots.Length == 0
        || Array.Exists(ImportRoots, root => (path + Path.DirectorySeparatorChar).StartsWith(Path.TrimEndingDirectorySeparator(Path.GetFullPath(root)) + Path.DirectorySeparatorChar, StringComparison.Ordinal));
}

[OptionsValidator]
internal sealed partial class GatewayOptionsValidator : IValidateOptions<GatewayOptions>;
