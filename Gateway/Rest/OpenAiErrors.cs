using System.Globalization;
using System.Text.Json;

namespace LlmPipeline.Gateway.Rest;

/// <summary>Errors in OpenAI's shape: <c>{"error": {"message", "type", "param", "code"}}</c>.</summary>
internal static class OpenAiErrors
{
    /// <summary>Writes an error as the whole answer.</summary>
    public static async Task WriteAsync(HttpContext context, GatewayException exception)
    {
        var (status, _, _) = CodesOf(exception);
        context.Response.StatusCode = status;
        if (exception.RetryAfter is { } retryAfter)
        {
            context.Response.Headers.RetryAfter = ((int)Math.Ceiling(retryAfter.TotalSeconds)).ToString(CultureInfo.InvariantCulture);
        }

        await WriteAsync(context, status, BodyOf(exception));
    }

    /// <summary>Writes an error that has no kind of its own, as the whole answer.</summary>
    public static Task WriteAsync(HttpContext context, int status, string message, string? code) =>
        WriteAsync(context, status, new ErrorBody(new ErrorDetails(message, status < 500 ? "invalid_request_error" : "server_error", null, code)));

    /// <summary>The body for an error, also as an event of a stream that has begun.</summary>
    public static ErrorBody BodyOf(GatewayException exception)
    {
        var (_, type, code) = CodesOf(exception);
        return new ErrorBody(new ErrorDetails(exception.Message, type, exception.Parameter, code));
    }

    private static async Task WriteAsync(HttpContext context, int status, ErrorBody body)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = "application/json";
        await JsonSerializer.SerializeAsync(context.Response.Body, body, OpenAiJson.Plain.ErrorBody, context.RequestAborted);
    }

    private static (int Status, string Type, string? Code) CodesOf(GatewayException exception) => exception.Kind switch
    {
        GatewayErrorKind.InvalidArgument => (400, "invalid_request_error", "invalid_value"),
        GatewayErrorKind.ModelNotFound => (404, "invalid_request_error", "model_not_found"),
        GatewayErrorKind.CorruptData => (500, "server_error", "corrupt_data"),
        GatewayErrorKind.QueueFull => (429, "rate_limit_error", "queue_full"),
        GatewayErrorKind.TimedOut => (504, "server_error", "timeout"),
        _ => (503, "server_error", "unavailable"),
    };
}
