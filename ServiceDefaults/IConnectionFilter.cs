using Microsoft.AspNetCore.Connections;

namespace LlmPipeline.ServiceDefaults;

/// <summary>Sees each connection of the gRPC port, without its TLS, before HTTP/2 does, and may keep it.</summary>
public interface IConnectionFilter
{
    /// <summary>Serves the connection, or leaves it to <paramref name="next"/> with nothing read from it.</summary>
    Task RunAsync(ConnectionContext connection, ConnectionDelegate next);
}
