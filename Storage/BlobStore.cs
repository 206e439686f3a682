namespace LlmPipeline.Storage;

/// <summary>Opens the store that a connection string names.</summary>
public static class BlobStore
{
    /// <summary>Opens a store.</summary>
    /// <param name="connectionString">
    /// <c>folder=PATH</c>; or an Azure Storage connection string; or a blob service URI (with <c>DefaultAzureCredential</c>),
    /// alone or as <c>Endpoint=URI</c>. The Azure forms take <c>;ContainerName=NAME</c>, default <c>llmpipeline</c>.
    /// </param>
    /// <exception cref="ArgumentException">The text is none of these; the message names the forms.</exception>
    public static IBlobStore Open(string connectionString) => throw new NotImplementedException(connectionString);
}
