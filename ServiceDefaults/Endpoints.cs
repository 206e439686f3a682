using System.Net;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;

namespace LlmPipeline.ServiceDefaults;

/// <summary>
/// Binds HTTP/1.1 where ASPNETCORE_URLS says and HTTP/2 on GRPC_PORT, which is without TLS unless <see cref="TlsOptions"/> name a
/// certificate: Kestrel cannot serve both on one cleartext port.
/// </summary>
internal static class Endpoints
{
    private const string PlainUrls = "urls";
    private const string HttpPorts = "http_ports";
    private const string GrpcPort = "GRPC_PORT";

    public static void AddEndpoints(this IHostApplicationBuilder builder)
    {
        builder.Services.TryAddSingleton<TlsCertificates>();

        // The last factory registered is asked first; it is Kestrel's own, behind a check for ports in use.
        builder.Services.AddSingleton<IConnectionListenerFactory, PortReportingListenerFactory>();
        if (ReadGrpcPort(builder.Configuration) is not { } grpcPort)
        {
            return;
        }

        var http = ReadHttpAddresses(builder.Configuration);
        var grpcHost = http.Count > 0 ? http[0].Host : "localhost";

        // Explicit endpoints replace ASPNETCORE_URLS, so all are bound here. An empty list (not an empty text, which means "ask the
        // host") keeps Kestrel from warning about it.
        builder.Configuration.AddInMemoryCollection([new(PlainUrls, ";")]);
        builder.Services.Configure<KestrelServerOptions>(kestrel =>
        {
            foreach (var address in http)
            {
                var tls = address.Scheme == Uri.UriSchemeHttps;
                kestrel.Listen(address.Host, address.Port, endpoint =>
                {
                    endpoint.Protocols = tls ? HttpProtocols.Http1AndHttp2 : HttpProtocols.Http1;
                    if (tls)
                    {
                        endpoint.UseHttps();
                    }
                });
            }

            kestrel.Listen(grpcHost, grpcPort, GrpcEndpoint.UseGrpc);
        });
    }

    private static int? ReadGrpcPort(IConfiguration configuration)
    {
        var text = configuration[GrpcPort];
        if (string.IsNullOrWhiteSpace(text))
        {
            return null;
        }

        return int.TryParse(text, out var port) && port is >= 0 and <= 65535
            ? port
            : throw new InvalidOperationException($"GRPC_PORT is '{text}': give a port from 0 (any free one) to 65535.");
    }

    private static List<BindingAddress> ReadHttpAddresses(IConfiguration configuration)
    {
        var urls = configuration[PlainUrls] ?? "";
        if (urls.Length == 0)
        {
            urls = string.Join(';', Split(configuration[HttpPorts] ?? "").Select(port => $"http://*:{port}"));
        }

        return [.. Split(urls).Select(BindingAddress.Parse)];
    }

    private static string[] Split(string list) =>
        list.Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    private static void Listen(this KestrelServerOptions kestrel, string host, int port, Action<ListenOptions> configure)
    {
        if (IPAddress.TryParse(host.Trim('[', ']'), out var ip))
        {
            kestrel.Listen(ip, port, configure);
        }
        else if (!string.Equals(host, "localhost", StringComparison.OrdinalIgnoreCase))
        {
            kestrel.ListenAnyIP(port, configure);
        }
        else if (port == 0)
        {
            // "localhost" is two addresses, which cannot share a port that the system picks.
            kestrel.Listen(IPAddress.Loopback, port, configure);
        }
        else
        {
            kestrel.ListenLocalhost(port, configure);
        }
    }
}
