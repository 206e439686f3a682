using Grpc.Net.Client;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Models;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Text.Building;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using TorchSharp;

namespace LlmPipeline.Evaluator.Tests;

/// <summary>The service on free loopback ports, in this process, with a character dataset and a fresh network in its storage.</summary>
internal sealed class EvaluatorHost : IAsyncDisposable
{
    public const string Dataset = "datasets/text";
    public const string Checkpoint = "runs/test/checkpoints/00000005";

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly WebApplication _app;
    private readonly GrpcChannel _channel;

    private EvaluatorHost(WebApplication app, IBlobStore store, string folder)
    {
        (_app, Store, Folder) = (app, store, folder);
        _channel = GrpcChannel.ForAddress(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Last());
        Evaluations = new EvaluationService.EvaluationServiceClient(_channel);
    }

    public static DateTime Deadline => DateTime.UtcNow + Patience;

    public IBlobStore Store { get; }

    public string Folder { get; }

    public EvaluationService.EvaluationServiceClient Evaluations { get; }

    public static async Task<EvaluatorHost> StartAsync(string folder)
    {
        var store = BlobStore.Open($"folder={folder}");
        if (await store.TryReadManifestAsync(Dataset) is null)
        {
            await MakeDatasetAsync(store, Dataset, "the cat sat on the mat and the dog sat on the log; ");
            await MakeModelAsync(store, Dataset, Checkpoint);
        }

        var builder = WebApplication.CreateSlimBuilder();
        builder.Configuration.AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["urls"] = "http://127.0.0.1:0",
            ["GRPC_PORT"] = "0",
            ["ConnectionStrings:storage"] = $"folder={folder}",
            ["Evaluator:Device"] = "cpu",
        });
        builder.Logging.ClearProviders();
        builder.AddServiceDefaults();
        builder.AddEvaluator();
        var app = builder.Build();
        app.MapDefaultEndpoints();
        app.MapEvaluator();
        await app.StartAsync().WaitAsync(Patience);
        return new EvaluatorHost(app, store, folder);
    }

    public static async Task MakeDatasetAsync(IBlobStore store, string name, string sentence)
    {
        var file = Path.Combine(Directory.CreateTempSubdirectory("llmpipeline-text-").FullName, "text.txt");
        await File.WriteAllTextAsync(file, string.Concat(Enumerable.Range(0, 300).Select(i => $"{i * 7919 % 1000} {sentence}")));
        var recipe = new DatasetRecipe { Sources = [file], TokenizerKind = "character", SplitMethod = SplitMethod.Tail, ValidationFraction = 0.1 };
        await new DatasetBuilder(store, DatasetBuilderOptions.Default).BuildAsync(recipe, new DatasetTarget(name), new BuildProgress(), _ => Task.CompletedTask);
        Directory.Delete(Path.GetDirectoryName(file)!, recursive: true);
    }

    public static async Task MakeModelAsync(IBlobStore store, string dataset, string name)
    {
        using var data = await TokenDataset.OpenAsync(store, dataset);
        using var model = LanguageModel.Create(
            new ModelConfig { VocabularySize = data.Tokenizer.VocabularySize, Layers = 2, Heads = 2, Width = 16, Context = 24, EndOfTextId = data.Tokenizer.EndOfTextId }, 1, torch.CPU);
        var directory = store.CreateDirectory(name);
        await ModelDirectory.WriteAsync(directory, model, data.Tokenizer.ToJson());
        await directory.CommitAsync();
    }

    public static EvaluationRequestSpec Spec(string model = Checkpoint, string dataset = Dataset) =>
        new() { Model = model, Dataset = dataset, BleuSamples = 4, BleuTokens = 8, NgramOrder = 3 };

    public async Task<Evaluation> CreateAsync(EvaluationRequestSpec spec) =>
        (await Evaluations.CreateEvaluationAsync(new CreateEvaluationRequest { Spec = spec }, deadline: Deadline)).Evaluation;

    /// <summary>Creates an evaluation and watches it to its end.</summary>
    public async Task<Evaluation> EvaluateAsync(EvaluationRequestSpec spec)
    {
        var evaluation = await CreateAsync(spec);
        using var call = Evaluations.WatchEvaluation(new WatchEvaluationRequest { Name = evaluation.Name }, deadline: Deadline);
        while (await call.ResponseStream.MoveNext(CancellationToken.None))
        {
            evaluation = call.ResponseStream.Current.Evaluation;
        }

        return evaluation;
    }

    public async ValueTask DisposeAsync()
    {
        _channel.Dispose();
        await _app.StopAsync().WaitAsync(Patience);
        await _app.DisposeAsync();
    }
}
