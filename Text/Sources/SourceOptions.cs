namespace LlmPipeline.Text.Sources;

/// <summary>Where and how sources are fetched; the text that is read does not depend on it.</summary>
public sealed record SourceOptions
{
    private static readonly HttpMessageHandler SharedHandler = new SocketsHttpHandler
    {
        AllowAutoRedirect = false,
        ConnectTimeout = TimeSpan.FromSeconds(30),
        PooledConnectionLifetime = TimeSpan.FromMinutes(5),
    };

    /// <summary>Takes what is downloaded; may be deleted whenever no dataset is being made. Default: a folder in the system's temporary folder.</summary>
    public string CacheFolder { get; init; } = Path.Combine(Path.GetTempPath(), "llmpipeline-sources");

    /// <summary>Sends requests; has to leave redirects to the caller.</summary>
    public HttpMessageHandler Http { get; init; } = SharedHandler;

    /// <summary>The hub that <c>hf://</c> means. Default: the environment variable HF_ENDPOINT, else https://huggingface.co.</summary>
    public string HuggingFaceEndpoint { get; init; } = Environment.GetEnvironmentVariable("HF_ENDPOINT") is { Length: > 0 } endpoint ? endpoint : "https://huggingface.co";

    /// <summary>Token for data sets that are not public. Default: the environment variable HF_TOKEN.</summary>
    public string? HuggingFaceToken { get; init; } = Environment.GetEnvironmentVariable("HF_TOKEN") is { Length: > 0 } token ? token : null;

    /// <summary>
    /// What <c>az://</c> means: an Azure Storage connection string, or the address of an account (with a SAS, or with <c>DefaultAzureCredential</c>).
    /// </summary>
    public string? AzureConnection { get; init; }

    /// <summary>Is told how far downloads have come.</summary>
    public IProgress<DownloadProgress>? Progress { get; init; }

    /// <summary>Wait before the first new try; the next ones are longer. A server's Retry-After is kept where it is longer.</summary>
    public TimeSpan RetryDelay { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>A server that sends nothing for so long is asked again.</summary>
    public TimeSpan IdleTimeout { get; init; } = TimeSpan.FromSeconds(60);
}

/// <summary>How far a download has come.</summary>
/// <param name="Path">The remote file.</param>
/// <param name="Bytes">Bytes that are here.</param>
/// <param name="Length">Bytes of the file.</param>
public readonly record struct DownloadProgress(string Path, long Bytes, long Length);
