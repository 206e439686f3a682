using System.Globalization;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using LlmPipeline.Gateway.Catalogue;
using LlmPipeline.Gateway.Engine;
using LlmPipeline.Inference.V1;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Gateway.Rpc;

/// <summary>Inference over gRPC.</summary>
internal sealed class InferenceGrpcService(GenerationEngine engine, ModelCatalogue catalogue, ModelImporter importer) : InferenceService.InferenceServiceBase
{
    private const int DefaultMaxTokens = 128;
    private const int DefaultPageSize = 50;
    private const int MaxPageSize = 1000;

    public override async Task Generate(GenerateRequest request, IServerStreamWriter<GenerateResponse> responseStream, ServerCallContext context)
    {
        try
        {
            await using var generation = await engine.StartAsync(ParametersOf(request, context), context.CancellationToken);
            var version = generation.Version.Name;
            await foreach (var piece in generation.ReadAsync(context.CancellationToken))
            {
                var response = new GenerateResponse { Text = piece.Text, ModelVersion = version };
                if (piece.End is { } end)
                {
                    response.FinishReason = end.FinishReason;
                    response.PromptTokenCount = end.PromptTokens;
                    response.CompletionTokenCount = end.CompletionTokens;
                }

                await responseStream.WriteAsync(response, context.CancellationToken);
                version = "";
            }
        }
        catch (GatewayException exception)
        {
            throw ToRpcException(exception);
        }
    }

    public override async Task<ClassifyResponse> Classify(ClassifyRequest request, ServerCallContext context)
    {
        try
        {
            var parameters = new ClassificationParameters { Model = request.Model, Inputs = [.. request.Inputs], Deadline = DeadlineOf(context) };
            await using var classification = await engine.StartAsync(parameters, context.CancellationToken);
            var result = await classification.ReadAsync(context.CancellationToken);
            return new ClassifyResponse
            {
                ModelVersion = classification.Version.Name,
                Labels = { result.Labels },
                TokenCount = result.TokenCount,
                Results = { result.Probabilities.Select(p => new TextClass { Label = result.Likeliest(p), Probabilities = { p } }) },
            };
        }
        catch (GatewayException exception)
        {
            throw ToRpcException(exception);
        }
    }

    public override Task<ListModelsResponse> ListModels(ListModelsRequest request, ServerCallContext context)
    {
        if (request.PageSize < 0)
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, $"page_size is {request.PageSize}: give 0 or a positive number.");
        }

        var start = 0;
        if (request.PageToken.Length > 0
            && (!int.TryParse(request.PageToken, NumberStyles.None, CultureInfo.InvariantCulture, out start) || start < 0))
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, "page_token is not one that this call gave: leave it empty to start again.");
        }

        var size = Math.Min(request.PageSize == 0 ? DefaultPageSize : request.PageSize, MaxPageSize);
        var all = catalogue.List();
        var response = new ListModelsResponse { Models = { all.Skip(start).Take(size).Select(ModelOf) } };
        if (start + size < all.Count)
        {
            response.NextPageToken = (start + size).ToString(CultureInfo.InvariantCulture);
        }

        return Task.FromResult(response);
    }

    public override async Task<ImportModelResponse> ImportModel(ImportModelRequest request, ServerCallContext context)
    {
        try
        {
            var version = await importer.ImportAsync(request.Path, request.ModelId, request.Tokenizer, context.CancellationToken);
            return new ImportModelResponse { Model = ModelOf(version) };
        }
        catch (GatewayException exception)
        {
            throw ToRpcException(exception);
        }
    }

    private static GenerationParameters ParametersOf(GenerateRequest request, ServerCallContext context) => new()
    {
        Model = request.Model,
        Prompt = request.Prompt,
        MaxTokens = request.MaxTokens == 0 ? DefaultMaxTokens : request.MaxTokens,
        Temperature = request.HasTemperature ? request.Temperature : 1,
        TopP = request.HasTopP ? request.TopP : 1,
        TopK = request.TopK,
        Seed = request.HasSeed ? request.Seed : null,
        Stop = [.. request.Stop],
        Deadline = DeadlineOf(context),
    };

    private static DateTimeOffset DeadlineOf(ServerCallContext context) =>
        context.Deadline == DateTime.MaxValue ? DateTimeOffset.MaxValue : new DateTimeOffset(context.Deadline);

    private static Model ModelOf(ModelVersion version)
    {
        var model = new Model
        {
            Name = $"models/{version.Model}",
            LatestVersion = version.Name,
            Run = version.Run,
            ParameterCount = version.ParameterCount,
            Context = version.Context,
            CreateTime = Timestamp.FromDateTimeOffset(version.CreateTime),
            Labels = { version.Labels ?? [] },
        };
        if (version.Loss is { } loss)
        {
            model.Loss = loss;
        }

        return model;
    }

    private static RpcException ToRpcException(GatewayException exception)
    {
        var (code, reason) = exception.Kind switch
        {
            GatewayErrorKind.InvalidArgument => (StatusCode.InvalidArgument, ErrorReasons.InvalidSpec),
            GatewayErrorKind.ModelNotFound => (StatusCode.NotFound, ErrorReasons.NotFound),
            GatewayErrorKind.CorruptData => (StatusCode.DataLoss, ErrorReasons.CorruptData),
            GatewayErrorKind.QueueFull => (StatusCode.ResourceExhausted, ErrorReasons.QueueFull),
            GatewayErrorKind.TimedOut => (StatusCode.DeadlineExceeded, ErrorReasons.DeadlineExceeded),
            _ => (StatusCode.Unavailable, ErrorReasons.Unavailable),
        };
        var error = RpcErrors.Create(code, reason, exception.Message);
        if (exception.RetryAfter is { } retryAfter)
        {
            error.Trailers.Add("retry-after", ((int)Math.Ceiling(retryAfter.TotalSeconds)).ToString(CultureInfo.InvariantCulture));
        }

        return error;
    }
}
