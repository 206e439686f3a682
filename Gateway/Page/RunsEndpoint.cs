using System.Globalization;
using Google.Protobuf;
using Grpc.Core;
using LlmPipeline.Gateway.Forwarding;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Gateway.Page;

/// <summary>What the page needs to know of runs, as JSON: the Trainer's answers, in protobuf's JSON form.</summary>
internal sealed class RunsEndpoint(RunService.RunServiceClient? trainer)
{
    private const int ListedRuns = 100;
    private const int MetricsPerAnswer = 1000;
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(5);
    private static readonly JsonFormatter Formatter = new(JsonFormatter.Settings.Default.WithFormatDefaultValues(true));

    /// <summary><c>GET /api/runs</c>: the newest runs, without events and specs.</summary>
    public Task ListAsync(HttpContext context) => AnswerAsync(context, async (client, options) =>
    {
        var response = await client.ListRunsAsync(new ListRunsRequest { PageSize = ListedRuns }, options);
        foreach (var run in response.Runs)
        {
            run.Events.Clear();
            run.Spec = null;
        }

        return response;
    });

    /// <summary><c>GET /api/runs/{id}</c>: one run, whole.</summary>
    public Task GetAsync(HttpContext context, string id) => AnswerAsync(context, async (client, options) =>
        await client.GetRunAsync(new GetRunRequest { Name = $"runs/{id}" }, options));

    /// <summary><c>GET /api/runs/{id}/metrics?after=STEP</c>: the numbers of the steps after one, at most a thousand.</summary>
    public Task MetricsAsync(HttpContext context, string id) => AnswerAsync(context, async (client, options) =>
    {
        _ = long.TryParse(context.Request.Query["after"], NumberStyles.None, CultureInfo.InvariantCulture, out var after);
        return await client.ListStepMetricsAsync(
            new ListStepMetricsRequest { Name = $"runs/{id}", AfterStep = after, PageSize = MetricsPerAnswer }, options);
    });

    private async Task AnswerAsync(HttpContext context, Func<RunService.RunServiceClient, CallOptions, Task<IMessage>> call)
    {
        context.Response.Headers.CacheControl = "no-store";
        if (trainer is null)
        {
            await FailAsync(context, StatusCodes.Status503ServiceUnavailable, $"The Gateway does not know where the Trainer is: set {Backend.Trainer.EndpointKey}.");
            return;
        }

        try
        {
            var answer = await call(trainer, new CallOptions(deadline: DateTime.UtcNow + Timeout, cancellationToken: context.RequestAborted));
            context.Response.ContentType = "application/json";
            await context.Response.WriteAsync(Formatter.Format(answer), context.RequestAborted);
        }
        catch (RpcException) when (context.RequestAborted.IsCancellationRequested)
        {
            // The page has gone.
        }
        catch (RpcException exception)
        {
            await (exception.StatusCode switch
            {
                StatusCode.NotFound => FailAsync(context, StatusCodes.Status404NotFound, exception.Status.Detail),
                StatusCode.InvalidArgument => FailAsync(context, StatusCodes.Status400BadRequest, exception.Status.Detail),
                StatusCode.ResourceExhausted => FailAsync(context, StatusCodes.Status502BadGateway, $"The Trainer's answer is too large: {exception.Status.Detail}"),
                _ => FailAsync(context, StatusCodes.Status503ServiceUnavailable, $"The Trainer does not answer ({exception.StatusCode})."),
            });
        }
    }

    private static Task FailAsync(HttpContext context, int status, string message) =>
        Rest.OpenAiErrors.WriteAsync(context, status, message, code: null);
}
