using LlmPipeline.Models;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;

namespace LlmPipeline.Evaluator;

/// <summary>Wires the service.</summary>
internal static class EvaluatorServices
{
    public static void AddEvaluator(this WebApplicationBuilder builder)
    {
        TorchRuntime.Initialize(builder.Configuration.GetSection(TorchRuntimeOptions.Section).Get<TorchRuntimeOptions>());
        var services = builder.Services;
        services.AddLlmPipelineGrpc();
        services.Configure<EvaluatorOptions>(builder.Configuration.GetSection(EvaluatorOptions.Section));
        services.AddSingleton(_ => BlobStore.Open(builder.Configuration.GetConnectionString("storage")));
        services.AddSingleton<EvaluatorTelemetry>();
        services.AddSingleton<EvaluationCatalog>();
        services.AddSingleton<EvaluationJob>();
        services.AddHostedService<EvaluationWorker>();
    }

    public static void MapEvaluator(this WebApplication app) => app.MapGrpcService<EvaluationGrpcService>();
}

/// <summary>Settings; section "Evaluator".</summary>
internal sealed record EvaluatorOptions
{
    /// <summary>Name of the configuration section.</summary>
    public const string Section = "Evaluator";

    /// <summary>"auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".</summary>
    public string Device { get; init; } = "auto";
}
