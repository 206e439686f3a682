using System.Text;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Text.Reports;
using LlmPipeline.Text.Sources;
using Microsoft.Extensions.Options;
using TokenizerMeasure = LlmPipeline.Datasets.V1.TokenizerMeasure;

namespace LlmPipeline.Preprocessor;

/// <summary>Measures tokenizers.</summary>
internal sealed class TokenizerReports(TokenizerLibrary tokenizers, IOptions<PreprocessorOptions> options)
{
    private const long DefaultBytes = 16 << 20;
    private const long MaxBytes = 1 << 30;
    private const int MaxTexts = 1000;
    private const int MaxTextBytes = 1 << 20;

    /// <summary>Answers GetTokenizerReport.</summary>
    /// <exception cref="Grpc.Core.RpcException">Something that was asked for is not there or not right; the message names it.</exception>
    public async Task<GetTokenizerReportResponse> MakeAsync(GetTokenizerReportRequest request, CancellationToken cancellationToken)
    {
        Require(request.Texts.Count is > 0 and <= MaxTexts, $"texts has {request.Texts.Count} entries; give 1 to {MaxTexts}.");
        Require(request.MaxBytes >= 0, $"max_bytes is {request.MaxBytes}; give 0 or a positive number.");
        for (var i = 0; i < request.Texts.Count; i++)
        {
            var text = request.Texts[i];
            Require(text.Sources.Count > 0 != text.Text.Length > 0, $"texts[{i}] needs either sources or text.");
            Require(text.Sources.All(s => !s.Contains('\0', StringComparison.Ordinal) && options.Value.MayRead(SourceFiles.Resolve(s))), $"texts[{i}].sources names something that this service may not read.");
            Require(Encoding.UTF8.GetByteCount(text.Text) <= MaxTextBytes, $"texts[{i}].text has more than {MaxTextBytes} bytes; name a file as its source.");
        }

        var tokenizer = await tokenizers.OpenAsync(request.Tokenizer, cancellationToken);
        var reporter = new TokenizerReporter(
            request.Tokenizer, tokenizer, request.Reference.Length > 0 ? (request.Reference, await tokenizers.OpenAsync(request.Reference, cancellationToken)) : null);
        return await Task.Run(() => MeasureAsync(request, reporter, cancellationToken), cancellationToken);
    }

    private async Task<GetTokenizerReportResponse> MeasureAsync(GetTokenizerReportRequest request, TokenizerReporter reporter, CancellationToken cancellationToken)
    {
        var maxBytes = request.MaxBytes == 0 ? DefaultBytes : Math.Min(request.MaxBytes, MaxBytes);
        try
        {
            foreach (var text in request.Texts)
            {
                if (text.Sources.Count == 0)
                {
                    reporter.Add(text.Label.Length > 0 ? text.Label : "text", Encoding.UTF8.GetBytes(text.Text));
                    continue;
                }

                await reporter.AddAsync(text.Label.Length > 0 ? text.Label : text.Sources[0], text.Sources.Select(SourceFiles.Resolve), options.Value.Sources(), maxBytes, cancellationToken);
            }

            return ToResponse(reporter.ToReport(request.Baseline.Length > 0 ? request.Baseline : null));
        }
        catch (TextSourceException exception)
        {
            throw RpcErrors.Create(Grpc.Core.StatusCode.InvalidArgument, DatasetErrors.ReasonOf(exception.Problem), exception.Message);
        }
        catch (InvalidDataException exception)
        {
            throw RpcErrors.Create(Grpc.Core.StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, exception.Message);
        }
    }

    private static GetTokenizerReportResponse ToResponse(TokenizerReport report) => new()
    {
        Kind = report.Kind,
        VocabularySize = report.VocabularySize,
        Labels = { report.Labels.Select(ToMessage) },
        Total = ToMessage(report.Total),
        Markdown = report.ToMarkdown(),
        Json = report.ToJson(),
    };

    private static TokenizerMeasure ToMessage(Text.Reports.TokenizerMeasure measure)
    {
        var message = new TokenizerMeasure
        {
            Label = measure.Label,
            ByteCount = measure.Bytes,
            CharacterCount = measure.Characters,
            WordCount = measure.Words,
            TokenCount = measure.Tokens,
            UnknownTokenCount = measure.UnknownTokens,
            TokensPerWord = measure.TokensPerWord,
            BytesPerToken = measure.BytesPerToken,
            UnknownRate = measure.UnknownRate,
        };
        if (measure.ReferenceTokens is { } tokens)
        {
            message.ReferenceTokenCount = tokens;
        }

        if (measure.Ratio is { } ratio)
        {
            message.Ratio = ratio;
        }

        if (measure.ReferenceRatio is { } referenceRatio)
        {
            message.ReferenceRatio = referenceRatio;
        }

        return message;
    }

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, message);
        }
    }
}
