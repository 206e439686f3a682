using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;

namespace LlmPipeline.Preprocessor;

/// <summary>Wires the service.</summary>
internal static class PreprocessorServices
{
    public static void AddPreprocessor(this WebApplicationBuilder builder)
    {
        var services = builder.Services;
        services.AddLlmPipelineGrpc();
        services.Configure<PreprocessorOptions>(builder.Configuration.GetSection(PreprocessorOptions.Section));
        services.PostConfigure<PreprocessorOptions>(o => o.AzureConnection ??= builder.Configuration.GetConnectionString("sources"));
        services.AddSingleton(_ => BlobStore.Open(builder.Configuration.GetConnectionString("storage")));
        services.AddSingleton<PreprocessorTelemetry>();
        services.AddSingleton<TokenizerResolver>();
        services.AddSingleton<DatasetSpecResolver>();
        services.AddSingleton<TokenizerCache>();
        services.AddSingleton<UnfinishedDatasets>();
        services.AddSingleton<TokenizerLibrary>();
        services.AddSingleton<TokenizerReports>();
        services.AddSingleton<DatasetCatalog>();
        services.AddSingleton<DatasetJob>();
        services.AddHostedService<DatasetWorker>();
    }

    public static void MapPreprocessor(this WebApplication app)
    {
        app.MapGrpcService<DatasetGrpcService>();
        app.MapGrpcService<TokenizerGrpcService>();
    }
}
