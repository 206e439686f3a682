using System.Diagnostics;
using LlmPipeline.Gateway.Catalogue;
using LlmPipeline.Gateway.Engine;

namespace LlmPipeline.Gateway.Telemetry;

/// <summary>Span and numbers of one answer.</summary>
internal sealed class AnswerTelemetry
{
    private readonly GatewayMetrics _metrics;
    private readonly Activity? _activity;
    private readonly TagList _tags;
    private readonly long _started = Stopwatch.GetTimestamp();
    private long _first;

    /// <param name="metrics">Where the numbers go.</param>
    /// <param name="operation">"text_completion" or "text_classification".</param>
    /// <param name="version">Of the model that answers.</param>
    public AnswerTelemetry(GatewayMetrics metrics, string operation, ModelVersion version)
    {
        _metrics = metrics;
        _tags = new()
        {
            { "gen_ai.operation.name", operation },
            { "gen_ai.provider.name", "llmpipeline" },
            { "gen_ai.request.model", version.Model },
            { "gen_ai.response.model", version.Name },
        };

        var run = GatewayTracing.ContextOf(version);
        var before = Activity.Current;
        _activity = GatewayTracing.Source.StartActivity(
            $"{operation} {version.Model}", ActivityKind.Internal, default(ActivityContext), _tags, run == default ? null : [new ActivityLink(run)]);

        // It ends on the engine's thread; what this thread starts until then is not part of it.
        Activity.Current = before;
    }

    /// <summary>Says what was asked for.</summary>
    public void Tell(GenerationParameters parameters)
    {
        _activity?.SetTag("gen_ai.request.max_tokens", parameters.MaxTokens);
        _activity?.SetTag("gen_ai.request.temperature", parameters.Temperature);
        _activity?.SetTag("gen_ai.request.top_p", parameters.TopP);
        _activity?.SetTag("gen_ai.request.top_k", parameters.TopK);
        _activity?.SetTag("gen_ai.request.seed", parameters.Seed);
    }

    /// <summary>Time since the request came.</summary>
    public TimeSpan Elapsed => Stopwatch.GetElapsedTime(_started);

    public void FirstToken()
    {
        _first = Stopwatch.GetTimestamp();
        _metrics.FirstToken(Elapsed, _tags);
    }

    /// <param name="outcome">"stop", "length", "cancelled", "timeout" or "error".</param>
    /// <param name="promptTokens">Tokens of the prompt.</param>
    /// <param name="completionTokens">Tokens generated.</param>
    /// <param name="exception">What went wrong.</param>
    public void End(string outcome, int promptTokens, int completionTokens, Exception? exception)
    {
        _metrics.End(Elapsed, _first == 0 ? null : Stopwatch.GetElapsedTime(_first), promptTokens, completionTokens, _tags);
        if (_activity is null)
        {
            return;
        }

        var before = Activity.Current;
        _activity.SetTag("gen_ai.response.finish_reasons", new[] { outcome });
        _activity.SetTag("gen_ai.usage.input_tokens", promptTokens);
        _activity.SetTag("gen_ai.usage.output_tokens", completionTokens);
        if (exception is not null and not OperationCanceledException)
        {
            _activity.SetTag("error.type", exception.GetType().Name);
            _activity.SetStatus(ActivityStatusCode.Error, exception.Message);
        }

        _activity.Stop();
        Activity.Current = before;
    }
}
