using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace LlmPipeline.ServiceDefaults;

/// <summary>The endpoint that gRPC is served on.</summary>
public static class GrpcEndpoint
{
    /// <summary>HTTP/2 only, over TLS where this service has a certificate, behind the <see cref="IConnectionFilter"/>s of the services.</summary>
    public static void UseGrpc(this ListenOptions endpoint)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        endpoint.Protocols = HttpProtocols.Http2;
        endpoint.ApplicationServices.GetRequiredService<TlsCertificates>().Secure(endpoint);
        foreach (var filter in endpoint.ApplicationServices.GetServices<IConnectionFilter>())
        {
            endpoint.Use(next => connection => filter.RunAsync(connection, next));
        }
    }
}
