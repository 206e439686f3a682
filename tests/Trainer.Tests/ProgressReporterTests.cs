using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Worker;
using LlmPipeline.Workers.V1;
using Microsoft.Extensions.Logging.Abstractions;

namespace LlmPipeline.Trainer.Tests;

public sealed class ProgressReporterTests
{
    [Fact]
    public async Task AnotherRunIsNotToldTheTimeOfTheOneBefore()
    {
        var coordinator = new RecordingCoordinator();
        var reporter = new ProgressReporter(coordinator, "worker-a", NullLogger.Instance);
        reporter.Begin(new EpochPlan { Run = "runs/first", Attempt = 1, Epoch = 1 });
        reporter.Step(new StepMetrics { Step = 1 }, trainSeconds: 5000);
        await reporter.FlushAsync(TestContext.Current.CancellationToken);
        reporter.Begin(new EpochPlan { Run = "runs/first", Attempt = 1, Epoch = 2 });
        reporter.Event("SOMETHING", "happened");
        await reporter.FlushAsync(TestContext.Current.CancellationToken);
        reporter.Begin(new EpochPlan { Run = "runs/second", Attempt = 1, Epoch = 3 });
        reporter.Event("SOMETHING", "happened");
        await reporter.FlushAsync(TestContext.Current.CancellationToken);
        Assert.Equal([("runs/first", 5000.0), ("runs/first", 5000.0), ("runs/second", 0.0)], coordinator.Requests.Select(r => (r.Run, r.TrainSeconds)));
    }

    private sealed class RecordingCoordinator : CoordinatorService.CoordinatorServiceClient
    {
        public List<ReportProgressRequest> Requests { get; } = [];

        public override AsyncUnaryCall<ReportProgressResponse> ReportProgressAsync(
            ReportProgressRequest request, Metadata? headers = null, DateTime? deadline = null, CancellationToken cancellationToken = default)
        {
            Requests.Add(request.Clone());
            return new AsyncUnaryCall<ReportProgressResponse>(Task.FromResult(new ReportProgressResponse()), Task.FromResult(new Metadata()), () => Status.DefaultSuccess, () => [], () => { });
        }
    }
}
