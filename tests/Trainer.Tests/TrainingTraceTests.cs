using System.Collections.Concurrent;
using System.Diagnostics;
using LlmPipeline.Trainer.Worker;
using Microsoft.Extensions.Time.Testing;

namespace LlmPipeline.Trainer.Tests;

public sealed class TrainingTraceTests
{
    [Fact]
    public void SpansStayFewHoweverLongARunIsAndBelongToItsTrace()
    {
        const string Trace = "5bf7651916cd43dd8448eb211c80319d";
        var spans = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == TrainerMetrics.Name,
            Sample = (ref ActivityCreationOptions<ActivityContext> options) =>
                options.Parent.TraceId.ToString() == Trace ? ActivitySamplingResult.AllDataAndRecorded : ActivitySamplingResult.None,
            ActivityStopped = spans.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);

        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        var clock = new StepClock(time);
        using (var trace = new TrainingTrace("runs/tiny"))
        {
            trace.Enter($"00-{Trace}-b7ad6b7169203331-01", 1, 0);
            for (var step = 1; step <= 200_000; step++)
            {
                clock.Restart();
                time.Advance(TimeSpan.FromMilliseconds(1));
                clock.Lap(StepPhase.Data);
                time.Advance(TimeSpan.FromMilliseconds(2));
                clock.Lap(StepPhase.Exchange);
                trace.Step(step, 1, clock);
                if (step % 500 == 0)
                {
                    trace.Start("checkpoint")?.Dispose();
                    trace.Continue(step, force: true);
                }
            }

            trace.Leave(200_000);
        }

        Assert.InRange(spans.Count, 100, 330);
        var first = spans.First(s => s.DisplayName == "train step");
        Assert.Equal(4, spans.Count(s => s.ParentSpanId == first.SpanId));
        Assert.Equal(TimeSpan.FromMilliseconds(3), first.Duration);
        Assert.Contains(spans, s => s.DisplayName == "train segment" && s.SpanId == first.ParentSpanId);
    }
}
