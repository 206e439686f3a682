using System.Text.Json;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Gateway.Rest;

/// <summary>Takes a request whose body is JSON; what goes wrong is answered in OpenAI's shape.</summary>
internal abstract partial class JsonEndpoint(IOptions<GatewayOptions> options, ILogger logger)
{
    // Deeper than any request that is right.
    private static readonly JsonDocumentOptions JsonOptions = new() { MaxDepth = 8, AllowDuplicateProperties = false };

    public async Task HandleAsync(HttpContext context)
    {
        try
        {
            using var body = await ReadBodyAsync(context);
            if (body is not null)
            {
                await AnswerAsync(context, body.RootElement);
            }
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            // The client has gone; nobody reads an answer.
        }
        catch (GatewayException exception) when (!context.Response.HasStarted)
        {
            await OpenAiErrors.WriteAsync(context, exception);
        }
        catch (Exception exception) when (!context.Response.HasStarted)
        {
            RequestFailed(exception);
            await OpenAiErrors.WriteAsync(context, StatusCodes.Status500InternalServerError, "The request failed unexpectedly. The Gateway's log says why.", "internal_error");
        }
    }

    /// <summary>Answers a request.</summary>
    /// <exception cref="GatewayException">Something is wrong with it.</exception>
    protected abstract Task AnswerAsync(HttpContext context, JsonElement body);

    /// <summary>The body as JSON; null when an error was answered.</summary>
    private async Task<JsonDocument?> ReadBodyAsync(HttpContext context)
    {
        if (!context.Request.HasJsonContentType())
        {
            await OpenAiErrors.WriteAsync(context, StatusCodes.Status415UnsupportedMediaType, "Send the request with Content-Type: application/json.", "unsupported_media_type");
            return null;
        }

        using var buffer = new MemoryStream();
        try
        {
            if (!await TryReadAsync(context.Request, buffer, options.Value.MaxBodyBytes, context.RequestAborted))
            {
                await RefuseTooLargeAsync(context);
                return null;
            }
        }
        catch (BadHttpRequestException exception)
        {
            await (exception.StatusCode == StatusCodes.Status413PayloadTooLarge
                ? RefuseTooLargeAsync(context)
                : OpenAiErrors.WriteAsync(context, exception.StatusCode, $"The body could not be read: {exception.Message} Send it again.", "unreadable_body"));
            return null;
        }
        catch (Exception exception) when (exception is IOException or OperationCanceledException)
        {
            // The connection broke: nobody reads an answer.
            context.Abort();
            return null;
        }

        try
        {
            return JsonDocument.Parse(buffer.GetBuffer().AsMemory(0, (int)buffer.Length), JsonOptions);
        }
        catch (JsonException exception)
        {
            await OpenAiErrors.WriteAsync(context, StatusCodes.Status400BadRequest, $"The body is not JSON: {exception.Message}", "invalid_json");
            return null;
        }
    }

    private Task RefuseTooLargeAsync(HttpContext context)
    {
        context.Response.Headers.Connection = "close";
        return OpenAiErrors.WriteAsync(
            context, StatusCodes.Status413PayloadTooLarge, $"The body is larger than {options.Value.MaxBodyBytes} bytes. Send a shorter prompt.", "request_too_large");
    }

    private static async Task<bool> TryReadAsync(HttpRequest request, MemoryStream destination, int limit, CancellationToken cancellationToken)
    {
        if (request.ContentLength > limit)
        {
            return false;
        }

        var reader = request.BodyReader;
        while (true)
        {
            var result = await reader.ReadAsync(cancellationToken);
            foreach (var segment in result.Buffer)
            {
                destination.Write(segment.Span);
            }

            reader.AdvanceTo(result.Buffer.End);
            if (destination.Length > limit)
            {
                return false;
            }

            if (result.IsCompleted)
            {
                return true;
            }
        }
    }

    [LoggerMessage(4020, LogLevel.Error, "A request failed; the client gets an error without details")]
    protected partial void RequestFailed(Exception exception);
}
