using System.Diagnostics;
using System.Diagnostics.Metrics;
using LlmPipeline.Gateway.Catalogue;
using LlmPipeline.Gateway.Engine;

namespace LlmPipeline.Gateway.Telemetry;

/// <summary>Numbers of the Gateway; names of the OpenTelemetry conventions for generative AI where they have one.</summary>
internal sealed class GatewayMetrics
{
    private static readonly InstrumentAdvice<double> Seconds = new()
    {
        HistogramBucketBoundaries = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300],
    };

    private readonly Meter _meter;
    private readonly Histogram<double> _timeToFirstToken;
    private readonly Histogram<double> _timePerToken;
    private readonly Histogram<double> _duration;
    private readonly Counter<long> _tokens;
    private readonly Counter<long> _rejected;

    public GatewayMetrics(IMeterFactory factory)
    {
        _meter = factory.Create(GatewayTracing.Name);
        _timeToFirstToken = _meter.CreateHistogram("gen_ai.server.time_to_first_token", "s", "Time from the request to its first token.", advice: Seconds);
        _timePerToken = _meter.CreateHistogram("gen_ai.server.time_per_output_token", "s", "Time per token after the first one.", advice: Seconds);
        _duration = _meter.CreateHistogram("gen_ai.server.request.duration", "s", "Time from the request to its end.", advice: Seconds);
        _tokens = _meter.CreateCounter<long>("llmpipeline.gateway.tokens", "{token}", "Tokens read and written.");
        _rejected = _meter.CreateCounter<long>("llmpipeline.gateway.rejected", "{request}", "Requests refused because the queue was full.");
    }

    /// <summary>Adds the gauges of what waits, runs and lies in memory. Called once.</summary>
    public void Observe(GenerationEngine engine, ModelCatalogue catalogue)
    {
        _meter.CreateObservableUpDownCounter("llmpipeline.gateway.queue.length", () => engine.WaitingCount, "{request}", "Requests waiting for their turn.");
        _meter.CreateObservableUpDownCounter("llmpipeline.gateway.active_requests", () => engine.AdmittedCount, "{request}", "Requests waiting or being answered.");
        _meter.CreateObservableUpDownCounter("llmpipeline.gateway.models.loaded", () => catalogue.LoadedCount, "{model}", "Models in memory.");
    }

    public void Rejected() => _rejected.Add(1);

    /// <summary>Begins the span of one answer, linked to the run that made the model. No text goes into it.</summary>
    public AnswerTelemetry Begin(string operation, ModelVersion version) => new(this, operation, version);

    public void FirstToken(TimeSpan elapsed, in TagList tags) => _timeToFirstToken.Record(elapsed.TotalSeconds, tags);

    public void End(TimeSpan elapsed, TimeSpan? sinceFirstToken, int promptTokens, int completionTokens, in TagList tags)
    {
        _duration.Record(elapsed.TotalSeconds, tags);
        if (sinceFirstToken is { } generating && completionTokens > 1)
        {
            _timePerToken.Record(generating.TotalSeconds / (completionTokens - 1), tags);
        }

        _tokens.Add(promptTokens, new KeyValuePair<string, object?>("gen_ai.token.type", "input"));
        _tokens.Add(completionTokens, new KeyValuePair<string, object?>("gen_ai.token.type", "output"));
    }
}
