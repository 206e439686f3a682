using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;
using Microsoft.Extensions.DependencyInjection;

namespace LlmPipeline.Preprocessor.Tests;

public sealed class TelemetryTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task StagesAreSpansInTheTraceOfTheCallThatCreatedTheDataset()
    {
        var ended = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name is PreprocessorTelemetry.Name or "Test" or "LlmPipeline.Text.Building",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = ended.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        using var source = new ActivitySource("Test");
        string trace;
        await using (var host = await PreprocessorHost.StartAsync(_folder.Path))
        {
            string name;
            using (var caller = source.StartActivity("caller"))
            {
                trace = caller!.TraceId.ToHexString();
                name = (await host.CreateAsync(Spec())).Name;
            }

            await host.WatchAsync(name);
        }

        var spans = ended.Where(a => a.Source.Name == PreprocessorTelemetry.Name && a.TraceId.ToHexString() == trace).ToList();
        Assert.Equal(["read", "tokenizer train", "tokenize", "dataset create"], spans.Select(s => s.OperationName));
        Assert.All(spans.SkipLast(1), s => Assert.Equal(spans[^1].SpanId, s.ParentSpanId));
        Assert.All(spans, s => Assert.StartsWith("datasets/", (string)s.GetTagItem("llmpipeline.dataset")!, StringComparison.Ordinal));

        var steps = ended.Where(a => a.Source.Name == "LlmPipeline.Text.Building" && a.TraceId.ToHexString() == trace).ToList();
        Assert.Equal(
            ["plan", "read piece", "read", "select", "count piece", "count", "tokenizer train", "encode piece", "encode", "assemble"], steps.Select(s => s.OperationName));
        Assert.Equal(spans[^1].SpanId, steps[0].ParentSpanId);
        Assert.Equal(steps[2].SpanId, steps[1].ParentSpanId);
    }

    [Fact]
    public async Task WorkIsCounted()
    {
        var sums = new ConcurrentDictionary<string, long>();
        await using var host = await PreprocessorHost.StartAsync(_folder.Path);
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                // The meter of this host, not of one that another test runs.
                if (instrument.Meter.Name == PreprocessorTelemetry.Name && instrument.Meter.Scope == host.Services.GetRequiredService<IMeterFactory>())
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, _, _) => sums.AddOrUpdate(instrument.Name, value, (_, sum) => sum + value));
        listener.SetMeasurementEventCallback<int>((instrument, value, _, _) => sums.AddOrUpdate(instrument.Name, value, (_, sum) => sum + value));
        listener.Start();
        var ready = (await host.WatchAsync((await host.CreateAsync(Spec())).Name))[^1].Dataset;
        await host.DisposeAsync();
        Assert.Equal(ready.Progress.DocumentCount, sums["llmpipeline.dataset.documents"]);
        Assert.Equal(ready.Progress.ByteCount, sums["llmpipeline.dataset.bytes"]);
        Assert.Equal(ready.Progress.TokenCount, sums["llmpipeline.dataset.tokens"]);
        Assert.Equal(0, sums["llmpipeline.dataset.queue.length"]);
    }

    private DatasetSpec Spec() => new()
    {
        Sources = { _folder.Write("text.txt", string.Concat(Enumerable.Range(0, 100).Select(i => $"line {i}\n"))) },
        Tokenizer = new TokenizerSpec { Kind = "character" },
    };
}
