using System.Text;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Text;

namespace LlmPipeline.Preprocessor;

/// <summary>The tokenizer calls.</summary>
internal sealed class TokenizerGrpcService(TokenizerCache tokenizers, TokenizerLibrary library, TokenizerReports reports) : TokenizerService.TokenizerServiceBase
{
    private const int MaxTextBytes = 1 << 20;

    public override Task<ListTokenizersResponse> ListTokenizers(ListTokenizersRequest request, ServerCallContext context) =>
        library.ListAsync(request.PageSize, request.PageToken, context.CancellationToken);

    public override async Task<GetTokenizerResponse> GetTokenizer(GetTokenizerRequest request, ServerCallContext context) =>
        new() { Tokenizer = await library.GetAsync(request.Name, context.CancellationToken) };

    public override Task<GetTokenizerReportResponse> GetTokenizerReport(GetTokenizerReportRequest request, ServerCallContext context) =>
        reports.MakeAsync(request, context.CancellationToken);

    public override async Task<EncodeResponse> Encode(EncodeRequest request, ServerCallContext context)
    {
        var bytes = Encoding.UTF8.GetByteCount(request.Text);
        if (bytes > MaxTextBytes)
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, $"text has {bytes} bytes; at most {MaxTextBytes} are allowed. Send it in parts, or make a dataset.");
        }

        var tokenizer = await tokenizers.GetAsync(request.Tokenizer, context.CancellationToken);
        return new EncodeResponse { Ids = { tokenizer.Encode(request.Text) } };
    }

    public override async Task<DecodeResponse> Decode(DecodeRequest request, ServerCallContext context)
    {
        var tokenizer = await tokenizers.GetAsync(request.Tokenizer, context.CancellationToken);
        for (var i = 0; i < request.Ids.Count; i++)
        {
            if (request.Ids[i] < 0 || request.Ids[i] >= tokenizer.VocabularySize)
            {
                RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, $"ids[{i}] is {request.Ids[i]}; '{request.Tokenizer}' has the ids 0 to {tokenizer.VocabularySize - 1}.");
            }
        }

        return new DecodeResponse { Text = tokenizer.Decode([.. request.Ids]) };
    }
}
