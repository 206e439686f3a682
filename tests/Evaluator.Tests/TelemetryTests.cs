using System.Collections.Concurrent;
using System.Diagnostics;

namespace LlmPipeline.Evaluator.Tests;

public sealed class TelemetryTests
{
    [Fact]
    public async Task PhasesAreSpansInTheTraceOfTheCallThatCreatedTheEvaluation()
    {
        var ended = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name is EvaluatorTelemetry.Name or "Test",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = ended.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync("models/tiny/versions/1");
        using var source = new ActivitySource("Test");
        string trace;
        await using (var host = await EvaluatorHost.StartAsync(workshop.StorePath))
        {
            string name;
            using (var caller = source.StartActivity("caller"))
            {
                trace = caller!.TraceId.ToHexString();
                name = (await host.CreateAsync(Workshop.Spec("models/tiny"))).Name;
            }

            await host.WatchAsync(name);
        }

        var spans = ended.Where(a => a.Source.Name == EvaluatorTelemetry.Name && a.TraceId.ToHexString() == trace).ToList();
        Assert.Equal(["model loss", "model bleu", "ngram train", "ngram loss", "evaluate"], spans.Select(s => s.OperationName));
        Assert.All(spans.SkipLast(1), s => Assert.Equal(spans[^1].SpanId, s.ParentSpanId));
    }
}
