using System.Collections.Concurrent;
using System.Net;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Inference.V1;
using LlmPipeline.Runs.V1;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace LlmPipeline.Cli.Tests;

/// <summary>A server with the Gateway's services, whose answers a test writes down beforehand.</summary>
internal sealed class FakeGateway : IAsyncDisposable
{
    private readonly WebApplication _app;

    private FakeGateway(WebApplication app) => _app = app;

    public string Endpoint => _app.Urls.Single();

    /// <summary>What WatchRun sends, in order, with sequence numbers from 1. Null breaks the connection there, once.</summary>
    public List<Run?> Versions { get; } = [];

    /// <summary>Whether the first break comes as a status, which no message before it can be lost to.</summary>
    public bool BreaksWithStatus { get; set; } = true;

    /// <summary>What WatchRun sends for certain runs, instead of <see cref="Versions"/>.</summary>
    public Dictionary<string, Run> Outcomes { get; } = [];

    /// <summary>Datasets beside the one that is always there.</summary>
    public List<Dataset> Datasets { get; } = [];

    public List<Run> Runs { get; } = [];

    /// <summary>Paths of the curves in a run's report.</summary>
    public List<string> Curves { get; } = ["curves/loss.svg"];

    public List<Evaluation> Evaluations { get; } = [];

    /// <summary>An error that CreateRun answers.</summary>
    public RpcException? Refusal { get; set; }

    /// <summary>Calls of ListRuns that fail as if the service were not up yet.</summary>
    public int UnavailableCalls { get; set; }

    /// <summary>Requests in the order they came.</summary>
    public ConcurrentQueue<object> Requests { get; } = new();

    public ConcurrentQueue<string> TraceParents { get; } = new();

    public ConcurrentQueue<byte[]> Exports { get; } = new();

    /// <summary>Evaluations are queued by the call that asks for them.</summary>
    public bool QueuesEvaluations { get; set; } = true;

    /// <summary>Completed when a watcher has everything that was written down, and waits.</summary>
    public TaskCompletionSource WatcherWaits { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public static async Task<FakeGateway> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(o => o.Listen(IPAddress.Loopback, 0, l => l.Protocols = HttpProtocols.Http2));
        builder.Services.AddGrpc();
        FakeGateway? gateway = null;
        builder.Services.AddSingleton(_ => gateway!);
        var app = builder.Build();
        gateway = new FakeGateway(app);
        app.MapGrpcService<RunCalls>();
        app.MapGrpcService<DatasetCalls>();
        app.MapGrpcService<TokenizerCalls>();
        app.MapGrpcService<EvaluationCalls>();
        app.MapGrpcService<InferenceCalls>();
        app.MapPost("/opentelemetry.proto.collector.trace.v1.TraceService/Export", async context =>
        {
            var body = new MemoryStream();
            await context.Request.Body.CopyToAsync(body);
            gateway.Exports.Enqueue(body.ToArray());
            context.Response.ContentType = "application/grpc";
            await context.Response.Body.WriteAsync(new byte[5]);
            context.Response.AppendTrailer("grpc-status", "0");
        });
        await app.StartAsync();
        return gateway;
    }

    public async ValueTask DisposeAsync()
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(1));
        await _app.StopAsync(timeout.Token);
        await _app.DisposeAsync();
    }

    private sealed class RunCalls(FakeGateway gateway) : RunService.RunServiceBase
    {
        public override Task<CreateRunResponse> CreateRun(CreateRunRequest request, ServerCallContext context)
        {
            gateway.Requests.Enqueue(request);
            gateway.TraceParents.Enqueue(context.RequestHeaders.GetValue("traceparent") ?? "");
            return gateway.Refusal is { } refusal
                ? throw refusal
                : Task.FromResult(new CreateRunResponse { Run = new Run { Name = $"runs/{(request.RunId.Length > 0 ? request.RunId : "r100")}", Spec = request.Spec, State = Run.Types.State.Queued, Attempt = 1 } });
        }

        public override Task<GetRunResponse> GetRun(GetRunRequest request, ServerCallContext context) =>
            Task.FromResult(new GetRunResponse { Run = Find(request.Name) });

        public override Task<ListRunsResponse> ListRuns(ListRunsRequest request, ServerCallContext context)
        {
            if (gateway.UnavailableCalls-- > 0)
            {
                throw new RpcException(new Status(StatusCode.Unavailable, "not yet"));
            }

            // Pages of one.
            var at = request.PageToken.Length == 0 ? 0 : int.Parse(request.PageToken, System.Globalization.CultureInfo.InvariantCulture);
            return Task.FromResult(new ListRunsResponse { Runs = { gateway.Runs.Skip(at).Take(1) }, NextPageToken = at + 1 < gateway.Runs.Count ? $"{at + 1}" : "" });
        }

        public override async Task WatchRun(WatchRunRequest request, IServerStreamWriter<WatchRunResponse> responseStream, ServerCallContext context)
        {
            gateway.Requests.Enqueue(request);
            if (gateway.Outcomes.TryGetValue(request.Name, out var outcome))
            {
                await responseStream.WriteAsync(new WatchRunResponse { Sequence = 1, Run = outcome });
                return;
            }

            for (var i = (int)request.AfterSequence; i < gateway.Versions.Count; i++)
            {
                if (gateway.Versions[i] is { } run)
                {
                    await responseStream.WriteAsync(new WatchRunResponse { Sequence = i + 1, Run = run });
                }
                else
                {
                    gateway.Versions.RemoveAt(i);
                    if (gateway.BreaksWithStatus)
                    {
                        gateway.BreaksWithStatus = false;
                        throw new RpcException(new Status(StatusCode.Unavailable, "going away"));
                    }

                    context.GetHttpContext().Abort();
                    return;
                }
            }

            if (!(gateway.Versions is [.., { } last] && Following.RunFollower.IsOver(last)))
            {
                gateway.WatcherWaits.TrySetResult();
                await Task.Delay(Timeout.Infinite, context.CancellationToken);
            }
        }

        public override Task<GetRunReportResponse> GetRunReport(GetRunReportRequest request, ServerCallContext context) => Task.FromResult(new GetRunReportResponse
        {
            Files =
            {
                new ReportFile { Path = "report.md", Text = $"# Report: {Find(request.Name).Name}\u001b[2J\n" },
                new ReportFile { Path = "report.json", Text = "{ \"run\": \"runs/r100\" }\n" },
                gateway.Curves.Select(curve => new ReportFile { Path = curve, Text = "<svg/>\n" }),
            },
        });

        public override Task<CancelRunResponse> CancelRun(CancelRunRequest request, ServerCallContext context)
        {
            var run = Find(request.Name);
            run.State = Run.Types.State.Cancelling;
            return Task.FromResult(new CancelRunResponse { Run = run });
        }

        public override Task<ResumeRunResponse> ResumeRun(ResumeRunRequest request, ServerCallContext context)
        {
            gateway.Requests.Enqueue(request);
            var run = Find(request.Name);
            run.State = Run.Types.State.Queued;
            return Task.FromResult(new ResumeRunResponse { Run = run });
        }

        private Run Find(string name) => gateway.Runs.FirstOrDefault(r => r.Name == name) ?? throw new RpcException(new Status(StatusCode.NotFound, $"'{name}' does not exist."));
    }

    private sealed class DatasetCalls(FakeGateway gateway) : DatasetService.DatasetServiceBase
    {
        private static readonly Dataset Only = new()
        {
            Name = "datasets/d100",
            State = Dataset.Types.State.Ready,
            Tokenizer = "tokenizers/t100",
            VocabularySize = 4096,
            Spec = new DatasetSpec { Sources = { "dotnet-docs:" } },
            Splits = { new SplitStatistics { Split = "train", DocumentCount = 12_345, TokenCount = 1_234_567, ByteCount = 9_876_543 } },
            CreateTime = Timestamp.FromDateTime(DateTime.UnixEpoch),
        };

        public override Task<ListDatasetsResponse> ListDatasets(ListDatasetsRequest request, ServerCallContext context) =>
            Task.FromResult(new ListDatasetsResponse { Datasets = { Only } });

        public override Task<GetDatasetResponse> GetDataset(GetDatasetRequest request, ServerCallContext context) => request.Name == Only.Name
            ? Task.FromResult(new GetDatasetResponse { Dataset = Only })
            : gateway.Datasets.FirstOrDefault(d => d.Name == request.Name) is { } found ? Task.FromResult(new GetDatasetResponse { Dataset = found })
            : throw new RpcException(new Status(StatusCode.NotFound, $"'{request.Name}' does not exist."));

        public override Task<CreateDatasetResponse> CreateDataset(CreateDatasetRequest request, ServerCallContext context)
        {
            gateway.Requests.Enqueue(request);
            return Task.FromResult(new CreateDatasetResponse { Dataset = new Dataset { Name = $"datasets/{request.DatasetId}", State = Dataset.Types.State.Queued } });
        }

        public override async Task WatchDataset(WatchDatasetRequest request, IServerStreamWriter<WatchDatasetResponse> responseStream, ServerCallContext context)
        {
            var sequence = 0;
            foreach (var dataset in gateway.Datasets.Where(d => d.Name == request.Name))
            {
                await responseStream.WriteAsync(new WatchDatasetResponse { Sequence = ++sequence, Dataset = dataset });
            }
        }

        public override Task<CancelDatasetResponse> CancelDataset(CancelDatasetRequest request, ServerCallContext context)
        {
            gateway.Requests.Enqueue(request);
            return Task.FromResult(new CancelDatasetResponse { Dataset = new Dataset { Name = request.Name, State = Dataset.Types.State.Cancelled } });
        }

        public override Task<GetDataCardResponse> GetDataCard(GetDataCardRequest request, ServerCallContext context) => request.Name == Only.Name
            ? Task.FromResult(new GetDataCardResponse { Markdown = "# Data card: datasets/d100\n", Json = "{ \"dataset\": \"datasets/d100\" }\n" })
            : throw new RpcException(new Status(StatusCode.NotFound, $"'{request.Name}' does not exist."));
    }

    private sealed class TokenizerCalls(FakeGateway gateway) : TokenizerService.TokenizerServiceBase
    {
        private static readonly Tokenizer Only = new()
        {
            Name = "tokenizers/word-8000-1",
            Kind = "word",
            VocabularySize = 8000,
            Hash = "abc",
            EndOfTextId = 0,
            UnknownId = 1,
            SpecialIds = { ["<|endoftext|>"] = 0, ["<unk>"] = 1 },
        };

        public override Task<ListTokenizersResponse> ListTokenizers(ListTokenizersRequest request, ServerCallContext context) =>
            Task.FromResult(new ListTokenizersResponse { Tokenizers = { Only } });

        public override Task<GetTokenizerResponse> GetTokenizer(GetTokenizerRequest request, ServerCallContext context) => request.Name == Only.Name
            ? Task.FromResult(new GetTokenizerResponse { Tokenizer = Only })
            : throw new RpcException(new Status(StatusCode.NotFound, $"'{request.Name}' does not exist."));

        public override Task<EncodeResponse> Encode(EncodeRequest request, ServerCallContext context) => Task.FromResult(new EncodeResponse { Ids = { 5, 7 } });

        public override Task<DecodeResponse> Decode(DecodeRequest request, ServerCallContext context) =>
            Task.FromResult(new DecodeResponse { Text = request.Ids[0] == 5 ? "a" : "\n" });

        public override Task<GetTokenizerReportResponse> GetTokenizerReport(GetTokenizerReportRequest request, ServerCallContext context)
        {
            gateway.Requests.Enqueue(request);
            return Task.FromResult(new GetTokenizerReportResponse { Markdown = "# Report\n", Json = "{}\n" });
        }
    }

    private sealed class EvaluationCalls(FakeGateway gateway) : EvaluationService.EvaluationServiceBase
    {
        public override Task<CreateEvaluationResponse> CreateEvaluation(CreateEvaluationRequest request, ServerCallContext context)
        {
            gateway.Requests.Enqueue(request);
            return Task.FromResult(new CreateEvaluationResponse { Evaluation = gateway.Evaluations[0], Queued = gateway.QueuesEvaluations });
        }

        public override async Task WatchEvaluation(WatchEvaluationRequest request, IServerStreamWriter<WatchEvaluationResponse> responseStream, ServerCallContext context)
        {
            for (var i = 0; i < gateway.Evaluations.Count; i++)
            {
                await responseStream.WriteAsync(new WatchEvaluationResponse { Sequence = i + 1, Evaluation = gateway.Evaluations[i] });
            }

            if (gateway.Evaluations[^1].State is Evaluation.Types.State.Queued or Evaluation.Types.State.Running)
            {
                gateway.WatcherWaits.TrySetResult();
                await Task.Delay(Timeout.Infinite, context.CancellationToken);
            }
        }

        public override Task<CancelEvaluationResponse> CancelEvaluation(CancelEvaluationRequest request, ServerCallContext context)
        {
            gateway.Requests.Enqueue(request);
            return Task.FromResult(new CancelEvaluationResponse { Evaluation = new Evaluation { Name = request.Name, State = Evaluation.Types.State.Cancelled } });
        }
    }

    private sealed class InferenceCalls(FakeGateway gateway) : InferenceService.InferenceServiceBase
    {
        public override async Task Generate(GenerateRequest request, IServerStreamWriter<GenerateResponse> responseStream, ServerCallContext context)
        {
            gateway.Requests.Enqueue(request);
            await responseStream.WriteAsync(new GenerateResponse { Text = " there", ModelVersion = "models/m100/versions/2" });
            await responseStream.WriteAsync(new GenerateResponse { Text = " was\u001b[2J" });
            await responseStream.WriteAsync(new GenerateResponse { FinishReason = "length", PromptTokenCount = 1, CompletionTokenCount = 2 });
        }

        public override Task<ClassifyResponse> Classify(ClassifyRequest request, ServerCallContext context)
        {
            gateway.Requests.Enqueue(request);
            return Task.FromResult(new ClassifyResponse
            {
                ModelVersion = "models/m100/versions/2",
                Labels = { "bad", "good" },
                Results = { request.Inputs.Select(text => new TextClass { Label = text.Length % 2 == 0 ? "good" : "bad", Probabilities = { text.Length % 2 == 0 ? [0.125, 0.875] : [0.75, 0.25] } }) },
            });
        }

        public override Task<ImportModelResponse> ImportModel(ImportModelRequest request, ServerCallContext context)
        {
            gateway.Requests.Enqueue(request);
            return Task.FromResult(new ImportModelResponse { Model = new Model { Name = $"models/{request.ModelId}", LatestVersion = $"models/{request.ModelId}/versions/3", ParameterCount = 260_032, Context = 512 } });
        }

        public override Task<ListModelsResponse> ListModels(ListModelsRequest request, ServerCallContext context) => Task.FromResult(new ListModelsResponse
        {
            Models = { new Model { Name = "models/m100", LatestVersion = "models/m100/versions/2", Run = "runs/r100", ParameterCount = 803_456, Context = 64, Loss = 1.8953 } },
        });
    }
}
