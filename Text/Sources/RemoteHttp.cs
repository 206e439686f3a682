using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using Polly;
using Polly.Retry;

namespace LlmPipeline.Text.Sources;

/// <summary>A failure that may pass: the request is worth another try.</summary>
internal sealed class TransientSourceException(string message, TimeSpan? retryAfter = null, Exception? inner = null) : IOException(message, inner)
{
    /// <summary>What the server asks to wait.</summary>
    public TimeSpan? RetryAfter { get; } = retryAfter;
}

/// <summary>Requests to servers of sources: redirects followed where that is safe, failures retried or named.</summary>
internal sealed class RemoteHttp(SourceOptions options)
{
    private const int MaxRedirects = 10;

    /// <summary>Tries without any progress, at most.</summary>
    private const int MaxTries = 6;

    private static readonly TimeSpan MaxDelay = TimeSpan.FromSeconds(30);

    /// <summary>Does something again while it fails for reasons that may pass and no more than a few times without progress.</summary>
    /// <param name="what">Names it in the error.</param>
    /// <param name="action">What is done.</param>
    /// <param name="position">Grows with progress.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="TextSourceException">It failed too often.</exception>
    public async Task<T> RetryAsync<T>(string what, Func<CancellationToken, ValueTask<T>> action, Func<long> position, CancellationToken cancellationToken)
    {
        var failures = 0;
        var reached = position();
        var pipeline = new ResiliencePipelineBuilder<T>().AddRetry(new RetryStrategyOptions<T>
        {
            MaxRetryAttempts = int.MaxValue,
            BackoffType = DelayBackoffType.Exponential,
            UseJitter = true,
            Delay = options.RetryDelay,
            MaxDelay = MaxDelay,
            ShouldHandle = outcome =>
            {
                var now = position();
                failures = now > reached ? 1 : failures + 1;
                reached = now;
                return ValueTask.FromResult(IsTransient(outcome.Outcome.Exception) && failures < MaxTries && !cancellationToken.IsCancellationRequested);
            },
            DelayGenerator = arguments => ValueTask.FromResult((arguments.Outcome.Exception as TransientSourceException)?.RetryAfter is { } wait ? (TimeSpan?)Min(wait, MaxDelay) : null),
        }).Build();
        try
        {
            return await pipeline.ExecuteAsync(action, cancellationToken);
        }
        catch (Exception exception) when (IsTransient(exception) && !cancellationToken.IsCancellationRequested)
        {
            throw new TextSourceException(TextSourceProblem.NotFound, $"{what} failed {MaxTries} times in a row, the last time because: {exception.Message} Try again later; what was downloaded is kept.", exception);
        }
    }

    /// <summary>Gets an address.</summary>
    /// <param name="address">https, or http to this machine.</param>
    /// <param name="token">Is sent to the address's own host only.</param>
    /// <param name="prepare">Adds headers.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>A response that was successful or is 416; its body is not read yet.</returns>
    /// <exception cref="TransientSourceException">Another try may succeed.</exception>
    /// <exception cref="TextSourceException">It will not.</exception>
    public async Task<HttpResponseMessage> GetAsync(Uri address, string? token, Action<HttpRequestMessage>? prepare, CancellationToken cancellationToken)
    {
        RequireSafe(address);
        var at = address;
        for (var hop = 0; hop <= MaxRedirects; hop++)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, at);
            request.Headers.AcceptEncoding.Add(new StringWithQualityHeaderValue("identity"));
            request.Headers.UserAgent.Add(new ProductInfoHeaderValue("llmpipeline", "0.1"));
            if (token is not null && at.Host == address.Host && at.Scheme == address.Scheme && at.Port == address.Port)
            {
                request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
            }

            prepare?.Invoke(request);
            var response = await SendAsync(request, cancellationToken);
            if ((int)response.StatusCode is 301 or 302 or 303 or 307 or 308 && response.Headers.Location is { } location)
            {
                response.Dispose();
                var next = new Uri(at, location);
                if (at.Scheme == Uri.UriSchemeHttps && next.Scheme != Uri.UriSchemeHttps)
                {
                    throw new TextSourceException(TextSourceProblem.NotFound, $"'{Name(address)}' redirects from https to {next.Scheme} ('{Name(next)}'), which is not followed. Ask for an https address.");
                }

                RequireSafe(next);
                at = next;
                continue;
            }

            if (response.IsSuccessStatusCode || response.StatusCode == HttpStatusCode.RequestedRangeNotSatisfiable)
            {
                return response;
            }

            using (response)
            {
                throw Failed(address, response);
            }
        }

        throw new TextSourceException(TextSourceProblem.NotFound, $"'{Name(address)}' redirects more than {MaxRedirects} times. Ask for another address.");
    }

    /// <summary>The address without its query, which may hold a secret.</summary>
    public static string Name(Uri address) => address.GetLeftPart(UriPartial.Path);

    private async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        using var idle = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        idle.CancelAfter(options.IdleTimeout);
        using var invoker = new HttpMessageInvoker(options.Http, disposeHandler: false);
        try
        {
            return await invoker.SendAsync(request, idle.Token);
        }
        catch (HttpRequestException exception)
        {
            throw new TransientSourceException($"'{Name(request.RequestUri!)}' cannot be reached: {exception.Message}", null, exception);
        }
        catch (OperationCanceledException exception) when (!cancellationToken.IsCancellationRequested)
        {
            throw new TransientSourceException($"'{Name(request.RequestUri!)}' did not answer within {options.IdleTimeout.TotalSeconds:F0} s.", null, exception);
        }
    }

    private static Exception Failed(Uri address, HttpResponseMessage response)
    {
        var status = (int)response.StatusCode;
        var what = string.Create(CultureInfo.InvariantCulture, $"'{Name(address)}' answers {status} ({response.ReasonPhrase}).");
        return status switch
        {
            408 or 425 or 429 or >= 500 => new TransientSourceException(what, RetryAfter(response)),
            401 or 403 => new TextSourceException(TextSourceProblem.NotFound, $"{what} It needs access: for Hugging Face accept the data set's terms and set HF_TOKEN; elsewhere give an address with a signature."),
            _ => new TextSourceException(TextSourceProblem.NotFound, $"{what} Check the address."),
        };
    }

    private static TimeSpan? RetryAfter(HttpResponseMessage response) => response.Headers.RetryAfter switch
    {
        { Delta: { } delta } => delta,
        { Date: { } date } when date > DateTimeOffset.UtcNow => date - DateTimeOffset.UtcNow,
        _ => null,
    };

    private static void RequireSafe(Uri address)
    {
        if (address.Scheme != Uri.UriSchemeHttps && !(address.Scheme == Uri.UriSchemeHttp && address.IsLoopback))
        {
            throw new TextSourceException(TextSourceProblem.NotFound, $"'{Name(address)}' is not an https address. Use https; http is for this machine alone.");
        }
    }

    private static bool IsTransient(Exception? exception) => exception is TransientSourceException or HttpRequestException or HttpIOException;

    private static TimeSpan Min(TimeSpan a, TimeSpan b) => a < b ? a : b;
}
