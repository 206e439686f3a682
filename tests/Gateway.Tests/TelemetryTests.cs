using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Text;
using System.Text.Json.Nodes;
using LlmPipeline.Fakes;

namespace LlmPipeline.Gateway.Tests;

public sealed class TelemetryTests : IDisposable
{
    private readonly TemporaryFolder _storage = new();
    private readonly ConcurrentQueue<Activity> _spans = new();
    private readonly ConcurrentQueue<(string Name, double Value)> _measurements = new();
    private readonly ActivityListener _spanListener;
    private readonly MeterListener _meterListener = new();
    private readonly string _model = $"model-{Guid.NewGuid():N}"[..20];

    public TelemetryTests()
    {
        _spanListener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == "LlmPipeline.Gateway",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = _spans.Enqueue,
        };
        ActivitySource.AddActivityListener(_spanListener);
        _meterListener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == "LlmPipeline.Gateway")
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _meterListener.SetMeasurementEventCallback<double>((i, value, _, _) => _measurements.Enqueue((i.Name, value)));
        _meterListener.SetMeasurementEventCallback<long>((i, value, _, _) => _measurements.Enqueue((i.Name, value)));
        _meterListener.SetMeasurementEventCallback<int>((i, value, _, _) => _measurements.Enqueue((i.Name, value)));
        _meterListener.Start();
    }

    public void Dispose()
    {
        _spanListener.Dispose();
        _meterListener.Dispose();
        _storage.Dispose();
    }

    [Fact]
    public async Task AnAnswerIsLinkedToTheRunThatMadeTheModelAndItsLoadingIsPartOfThatRun()
    {
        var run = new ActivityContext(ActivityTraceId.CreateRandom(), ActivitySpanId.CreateRandom(), ActivityTraceFlags.Recorded);
        await TinyModel.PublishAsync(_storage.Path, _model, properties: new JsonObject { ["traceparent"] = $"00-{run.TraceId}-{run.SpanId}-01" });
        await using var gateway = await GatewayHost.StartAsync(_storage.Path);

        var load = Assert.Single(_spans, s => s.OperationName == "model load" && s.TraceId == run.TraceId);
        Assert.Equal(run.SpanId, load.ParentSpanId);
        Assert.Equal($"models/{_model}/versions/1", load.GetTagItem("llmpipeline.model_version"));

        using var content = new StringContent($$"""{"model": "{{_model}}", "prompt": "the secret", "max_tokens": 5, "temperature": 0.5, "seed": 3}""", Encoding.UTF8, "application/json");
        Assert.True((await gateway.Http.PostAsync("/v1/completions", content)).IsSuccessStatusCode);
        var span = Assert.Single(_spans, s => s.DisplayName == $"text_completion {_model}");
        Assert.NotEqual(run.TraceId, span.TraceId);
        Assert.Equal(run.TraceId, Assert.Single(span.Links).Context.TraceId);
        Assert.Equal("text_completion", span.GetTagItem("gen_ai.operation.name"));
        Assert.Equal($"models/{_model}/versions/1", span.GetTagItem("gen_ai.response.model"));
        Assert.Equal(10, span.GetTagItem("gen_ai.usage.input_tokens"));
        Assert.Equal(5, span.GetTagItem("gen_ai.usage.output_tokens"));
        Assert.Equal("length", Assert.Single((string[])span.GetTagItem("gen_ai.response.finish_reasons")!));
        Assert.DoesNotContain(span.TagObjects, t => $"{t.Value}".Contains("secret", StringComparison.Ordinal));
    }

    [Fact]
    public async Task TimesAndTokensAreMeasured()
    {
        await TinyModel.PublishAsync(_storage.Path, _model);
        await using var gateway = await GatewayHost.StartAsync(_storage.Path);
        using var content = new StringContent($$"""{"model": "{{_model}}", "prompt": "a", "max_tokens": 5}""", Encoding.UTF8, "application/json");
        Assert.True((await gateway.Http.PostAsync("/v1/completions", content)).IsSuccessStatusCode);
        _meterListener.RecordObservableInstruments();
        Assert.Contains(_measurements, m => m.Name == "gen_ai.server.time_to_first_token" && m.Value > 0);
        Assert.Contains(_measurements, m => m.Name == "gen_ai.server.request.duration" && m.Value > 0);
        Assert.Contains(_measurements, m => m.Name == "gen_ai.server.time_per_output_token" && m.Value > 0);
        Assert.Contains(_measurements, m => m is { Name: "llmpipeline.gateway.tokens", Value: 5 });
        Assert.Contains(_measurements, m => m is { Name: "llmpipeline.gateway.models.loaded", Value: 1 });
        Assert.Contains(_measurements, m => m.Name == "llmpipeline.gateway.queue.length");
        Assert.Contains(_measurements, m => m.Name == "llmpipeline.gateway.active_requests");
    }
}
