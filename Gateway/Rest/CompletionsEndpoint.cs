using System.Buffers;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using LlmPipeline.Gateway.Engine;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Gateway.Rest;

/// <summary><c>POST /v1/completions</c>, whole or as server-sent events.</summary>
internal sealed class CompletionsEndpoint(
    GenerationEngine engine, IOptions<GatewayOptions> options, TimeProvider time, ILogger<CompletionsEndpoint> logger) : JsonEndpoint(options, logger)
{
    /// <inheritdoc/>
    protected override async Task AnswerAsync(HttpContext context, JsonElement body)
    {
        var request = CompletionRequest.Parse(body);
        await using var generation = await engine.StartAsync(request.Parameters, context.RequestAborted);
        var answer = new CompletionBody(
            $"cmpl-{Guid.NewGuid():N}", "text_completion", time.GetUtcNow().ToUnixTimeSeconds(), generation.Version.Name, [], null);
        await (request.Stream ? StreamAsync(context, request, generation, answer) : WriteAsync(context, request, generation, answer));
    }

    private static async Task WriteAsync(HttpContext context, CompletionRequest request, TextGeneration generation, CompletionBody answer)
    {
        var text = new System.Text.StringBuilder(request.Echo ? request.Parameters.Prompt : "");
        GenerationEnd? end = null;
        await foreach (var piece in generation.ReadAsync(context.RequestAborted))
        {
            text.Append(piece.Text);
            end = piece.End ?? end;
        }

        context.Response.ContentType = "application/json";
        var whole = answer with { Choices = [new CompletionChoice(text.ToString(), 0, null, end!.FinishReason)], Usage = UsageOf(end) };
        await JsonSerializer.SerializeAsync(context.Response.Body, whole, OpenAiJson.Plain.CompletionBody, context.RequestAborted);
    }

    private async Task StreamAsync(HttpContext context, CompletionRequest request, TextGeneration generation, CompletionBody answer)
    {
        context.Response.ContentType = "text/event-stream";
        context.Response.Headers.CacheControl = "no-cache";
        context.Response.Headers["X-Accel-Buffering"] = "no";
        await context.Response.StartAsync(context.RequestAborted);
        try
        {
            if (request.Echo)
            {
                await WriteEventAsync(context, Chunk(answer, request.Parameters.Prompt, null), OpenAiJson.Plain.CompletionBody);
            }

            await foreach (var piece in generation.ReadAsync(context.RequestAborted))
            {
                await WriteEventAsync(context, Chunk(answer, piece.Text, piece.End?.FinishReason), OpenAiJson.Plain.CompletionBody);
                if (piece.End is { } end && request.IncludeUsage)
                {
                    await WriteEventAsync(context, answer with { Usage = UsageOf(end) }, OpenAiJson.Plain.CompletionBody);
                }
            }

            await context.Response.WriteAsync("data: [DONE]\n\n", context.RequestAborted);
        }
        catch (GatewayException exception)
        {
            await WriteEventAsync(context, OpenAiErrors.BodyOf(exception), OpenAiJson.Plain.ErrorBody);
        }
        catch (Exception exception) when (!context.RequestAborted.IsCancellationRequested)
        {
            RequestFailed(exception);
            var failure = new ErrorBody(new ErrorDetails("The answer broke off unexpectedly. The Gateway's log says why.", "server_error", null, "internal_error"));
            await WriteEventAsync(context, failure, OpenAiJson.Plain.ErrorBody);
        }
    }

    private static CompletionBody Chunk(CompletionBody answer, string text, string? finishReason) =>
        answer with { Choices = [new CompletionChoice(text, 0, null, finishReason)] };

    private static CompletionUsage UsageOf(GenerationEnd end) =>
        new(end.PromptTokens, end.CompletionTokens, end.PromptTokens + end.CompletionTokens);

    private static async Task WriteEventAsync<T>(HttpContext context, T value, JsonTypeInfo<T> type)
    {
        var writer = context.Response.BodyWriter;
        writer.Write("data: "u8);
        await using (var json = new Utf8JsonWriter(writer, new JsonWriterOptions { Encoder = OpenAiJson.Plain.Options.Encoder }))
        {
            JsonSerializer.Serialize(json, value, type);
        }

        writer.Write("\n\n"u8);
        await writer.FlushAsync(context.RequestAborted);
    }
}
