using Grpc.Net.Client;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace LlmPipeline.Evaluator.Tests;

/// <summary>The service on free loopback ports, in this process.</summary>
internal sealed class EvaluatorHost : IAsyncDisposable
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly WebApplication _app;
    private readonly GrpcChannel _channel;

    private EvaluatorHost(WebApplication app)
    {
        _app = app;
        _channel = GrpcChannel.ForAddress(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Last());
        Evaluations = new EvaluationService.EvaluationServiceClient(_channel);
    }

    public static DateTime Deadline => DateTime.UtcNow + Patience;

    public EvaluationService.EvaluationServiceClient Evaluations { get; }

    /// <param name="storage">The storage folder.</param>
    /// <param name="store">In place of the folder's store.</param>
    public static async Task<EvaluatorHost> StartAsync(string storage, IBlobStore? store = null)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Configuration.AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["urls"] = "http://127.0.0.1:0",
            ["GRPC_PORT"] = "0",
            ["ConnectionStrings:storage"] = $"folder={storage}",
            ["Evaluator:Device"] = "cpu",
        });
        builder.Logging.ClearProviders();
        builder.AddServiceDefaults();
        builder.AddEvaluator();
        if (store is not null)
        {
            builder.Services.AddSingleton(store);
        }

        var app = builder.Build();
        app.MapDefaultEndpoints();
        app.MapEvaluator();
        await app.StartAsync().WaitAsync(Patience);
        return new EvaluatorHost(app);
    }

    public async Task<Evaluation> CreateAsync(EvaluationRequestSpec spec, string id = "") =>
        (await Evaluations.CreateEvaluationAsync(new CreateEvaluationRequest { EvaluationId = id, Spec = spec }, deadline: Deadline)).Evaluation;

    public async Task<Evaluation> CancelAsync(string name) =>
        (await Evaluations.CancelEvaluationAsync(new CancelEvaluationRequest { Name = name }, deadline: Deadline)).Evaluation;

    /// <summary>Watches an evaluation to its end, or until a condition holds, and returns all that was seen.</summary>
    public async Task<List<WatchEvaluationResponse>> WatchAsync(string name, Func<Evaluation, bool>? until = null)
    {
        using var call = Evaluations.WatchEvaluation(new WatchEvaluationRequest { Name = name }, deadline: Deadline);
        var seen = new List<WatchEvaluationResponse>();
        while (await call.ResponseStream.MoveNext(CancellationToken.None))
        {
            seen.Add(call.ResponseStream.Current);
            if (until?.Invoke(seen[^1].Evaluation) == true)
            {
                break;
            }
        }

        return seen;
    }

    /// <summary>Creates an evaluation and waits for its end.</summary>
    public async Task<Evaluation> EvaluateAsync(EvaluationRequestSpec spec) => (await WatchAsync((await CreateAsync(spec)).Name))[^1].Evaluation;

    public async ValueTask DisposeAsync()
    {
        _channel.Dispose();
        await _app.StopAsync().WaitAsync(Patience);
        await _app.DisposeAsync();
    }
}
