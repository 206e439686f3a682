using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Sockets;
using Grpc.Core;
using Grpc.Health.V1;
using LlmPipeline.Runs.V1;
using Microsoft.AspNetCore.Builder;

namespace LlmPipeline.ServiceDefaults.Tests;

public sealed class TelemetryTests
{
    [Theory]
    [InlineData("/health/ready", false)]
    [InlineData("/grpc.health.v1.Health/Check", false)]
    [InlineData("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", false)]
    [InlineData("/llmpipeline.workers.v1.CoordinatorService/Heartbeat", false)]
    [InlineData("/llmpipeline.workers.v1.CoordinatorService/ReportProgress", false)]
    [InlineData("/llmpipeline.workers.v1.PeerService/CopyState", false)]
    [InlineData("/llmpipeline.runs.v1.RunService/CreateRun", true)]
    [InlineData("/v1/completions", true)]
    [InlineData("/", true)]
    public void OnlyWhatSaysSomethingIsTraced(string path, bool traced) => Assert.Equal(traced, Telemetry.IsTraced(path));

    [Fact]
    public async Task AGrpcCallIsOneTraceOfClientServerAndTheServicesOwnSpans()
    {
        var service = await TestService.StartAsync(
            builder => builder.Services.AddLlmPipelineGrpc(), app => app.MapGrpcService<TracedRuns>());

        await new RunService.RunServiceClient(service.Grpc).GetRunAsync(
            new GetRunRequest(), deadline: DateTime.UtcNow + TestService.Patience);
        await new Health.HealthClient(service.Grpc).CheckAsync(
            new HealthCheckRequest(), deadline: DateTime.UtcNow + TestService.Patience);
        await service.Http.GetStringAsync("/health/live").WaitAsync(TestService.Patience);
        await service.DisposeAsync();

        var work = Assert.Single(service.Spans, span => span.DisplayName == "work");
        var trace = service.Spans.Where(span => span.TraceId == work.TraceId).ToList();
        Assert.Contains(trace, span => span is { Kind: ActivityKind.Server, DisplayName: "llmpipeline.runs.v1.RunService/GetRun" });
        Assert.Contains(trace, span => span is { Kind: ActivityKind.Client, DisplayName: "llmpipeline.runs.v1.RunService/GetRun" });
        Assert.DoesNotContain(service.Spans, span => span.DisplayName.Contains("ealth", StringComparison.Ordinal));
    }

    // What is exported goes through buffers that drop when they are full: whoever makes spans and metrics never waits for a collector.
    [Theory]
    [InlineData("takes connections and says nothing")]
    [InlineData("is gone")]
    public async Task ACollectorThatDoesNotTakeWhatIsSentHoldsNobodyUpAndFillsNoMemory(string collector)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var port = ((IPEndPoint)listener.LocalEndpoint).Port;
        if (collector == "is gone")
        {
            listener.Stop();
        }

        await using var service = await TestService.StartAsync(collector: $"http://127.0.0.1:{port}");
        using var source = new ActivitySource("LlmPipeline.Anything");
        using var meter = new Meter("LlmPipeline.Anything");
        var counter = meter.CreateCounter<long>("things");
        Make(1000);
        var before = GC.GetTotalMemory(forceFullCollection: true);
        var slowest = TimeSpan.Zero;
        for (var batch = 0; batch < 50; batch++)
        {
            var start = Stopwatch.GetTimestamp();
            Make(1000);
            slowest = Stopwatch.GetElapsedTime(start) is var elapsed && elapsed > slowest ? elapsed : slowest;
        }

        Assert.InRange(slowest.TotalSeconds, 0, 5);
        Assert.InRange(GC.GetTotalMemory(forceFullCollection: true) - before, long.MinValue, 32L << 20);

        void Make(int count)
        {
            for (var i = 0; i < count; i++)
            {
                using var span = source.StartActivity("train step");
                Assert.NotNull(span);
                span.SetTag("step", i);
                counter.Add(1);
            }
        }
    }

    private sealed class TracedRuns : RunService.RunServiceBase
    {
        private static readonly ActivitySource Source = new("LlmPipeline.Anything");

        public override Task<GetRunResponse> GetRun(GetRunRequest request, ServerCallContext context)
        {
            using var work = Source.StartActivity("work");
            return Task.FromResult(new GetRunResponse());
        }
    }
}
