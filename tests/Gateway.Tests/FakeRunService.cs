using System.Collections.Concurrent;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace LlmPipeline.Gateway.Tests;

/// <summary>A Trainer that keeps runs in memory and trains nothing.</summary>
internal sealed class FakeRunService : RunService.RunServiceBase
{
    public ConcurrentDictionary<string, Run> Runs { get; } = new();

    public ConcurrentDictionary<string, List<StepMetrics>> Metrics { get; } = new();

    /// <summary>Completed when the server sees that the watcher of a run has gone.</summary>
    public TaskCompletionSource WatchCancelled { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public string? LastClientHeader { get; private set; }

    /// <summary>Starts it on a free port.</summary>
    /// <param name="settings">Section Tls, or nothing.</param>
    public async Task<(WebApplication App, string Url)> StartAsync(params (string Key, string Value)[] settings)
    {
        var builder = WebApplication.CreateBuilder();
        builder.Logging.ClearProviders();
        builder.Configuration.AddInMemoryCollection(settings.Select(s => KeyValuePair.Create(s.Key, (string?)s.Value)));
        builder.WebHost.ConfigureKestrel(k => k.Listen(System.Net.IPAddress.Loopback, 0, GrpcEndpoint.UseGrpc));
        builder.Services.AddSingleton<TlsCertificates>();
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(this);
        var app = builder.Build();
        app.MapGrpcService<FakeRunService>();
        await app.StartAsync();
        return (app, app.Urls.Single());
    }

    public override Task<CreateRunResponse> CreateRun(CreateRunRequest request, ServerCallContext context)
    {
        LastClientHeader = context.RequestHeaders.GetValue("x-test");
        var run = new Run
        {
            Name = $"runs/{request.RunId}",
            Spec = request.Spec,
            State = Run.Types.State.Queued,
            CreateTime = Timestamp.FromDateTime(DateTime.UtcNow),
        };
        return Runs.TryAdd(run.Name, run)
            ? Task.FromResult(new CreateRunResponse { Run = run })
            : throw new RpcException(new Status(StatusCode.AlreadyExists, $"'{run.Name}' exists."), new Metadata { { "x-reason", "TAKEN" } });
    }

    public override Task<GetRunResponse> GetRun(GetRunRequest request, ServerCallContext context) => Runs.TryGetValue(request.Name, out var run)
        ? Task.FromResult(new GetRunResponse { Run = run })
        : throw new RpcException(new Status(StatusCode.NotFound, $"'{request.Name}' does not exist."));

    public override Task<ListRunsResponse> ListRuns(ListRunsRequest request, ServerCallContext context) =>
        Task.FromResult(new ListRunsResponse { Runs = { Runs.Values.OrderByDescending(r => r.CreateTime).Select(r => r.Clone()) } });

    public override Task<ListStepMetricsResponse> ListStepMetrics(ListStepMetricsRequest request, ServerCallContext context) =>
        Task.FromResult(new ListStepMetricsResponse
        {
            Metrics = { Metrics.GetValueOrDefault(request.Name, []).Where(m => m.Step > request.AfterStep).Take(request.PageSize) },
        });

    public override async Task WatchRun(WatchRunRequest request, IServerStreamWriter<WatchRunResponse> responseStream, ServerCallContext context)
    {
        await responseStream.WriteAsync(new WatchRunResponse { Sequence = 1, Run = Runs[request.Name] }, context.CancellationToken);
        try
        {
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
        }
        catch (OperationCanceledException)
        {
            WatchCancelled.TrySetResult();
        }
    }
}
