using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Http.Resilience;
using Polly;

namespace LlmPipeline.ServiceDefaults;

/// <summary>
/// Retries and time limits of plain HTTP clients. gRPC calls pass untouched: they have deadlines of their own, and streams of
/// hours that a time limit would cut.
/// </summary>
internal static class PlainHttpResilience
{
    private static readonly TimeSpan TotalTimeout = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan AttemptTimeout = TimeSpan.FromSeconds(10);

    public static IHttpClientBuilder AddPlainHttpResilience(this IHttpClientBuilder http)
    {
        var retry = new HttpRetryStrategyOptions();
        retry.DisableForUnsafeHttpMethods();
        var plain = new ResiliencePipelineBuilder<HttpResponseMessage>()
            .AddTimeout(TotalTimeout)
            .AddRetry(retry)
            .AddTimeout(AttemptTimeout)
            .Build();
        return http.AddHttpMessageHandler(() => new ResilienceHandler(
            request => IsGrpc(request) ? ResiliencePipeline<HttpResponseMessage>.Empty : plain));
    }

    private static bool IsGrpc(HttpRequestMessage request) =>
        request.Content?.Headers.ContentType?.MediaType?.StartsWith("application/grpc", StringComparison.Ordinal) == true;
}
