namespace LlmPipeline.ServiceDefaults;

/// <summary>TLS between services; section "Tls". Without any of it, gRPC is plain HTTP/2.</summary>
public sealed record TlsOptions
{
    /// <summary>Name of the configuration section.</summary>
    public const string Section = "Tls";

    /// <summary>PEM file of this service's certificate, followed by those of intermediate authorities; with <see cref="Key"/>.</summary>
    public string? Certificate { get; init; }

    /// <summary>PEM file of its private key.</summary>
    public string? Key { get; init; }

    /// <summary>
    /// PEM file of the authorities that peers' certificates have to come from: those of servers, and those of clients, which then have
    /// to show one (mTLS). Without it, servers are checked as the system does, and clients are not.
    /// </summary>
    public string? Authority { get; init; }
}
