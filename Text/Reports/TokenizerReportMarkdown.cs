using System.Globalization;
using System.Text;

namespace LlmPipeline.Text.Reports;

/// <summary>A tokenizer report as a table.</summary>
internal static class TokenizerReportMarkdown
{
    public static string Write(TokenizerReport report)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# Tokenizer report: {report.Tokenizer}\n\n");
        text.Append(CultureInfo.InvariantCulture, $"Kind `{report.Kind}`, {report.VocabularySize:N0} ids. Words are what white space separates; unknown is the share of tokens that stand for text outside the vocabulary.");
        text.Append(report.Reference is { } reference ? $" In brackets: {reference}." : "");
        text.Append(report.Baseline is { } baseline ? $" The ratio is tokens over those of `{baseline}`, which says something where the texts are translations of each other." : "");
        text.Append("\n\n| text | bytes | words | tokens | tokens a word | bytes a token | unknown |").Append(report.Baseline is null ? "\n" : " ratio |\n");
        text.Append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |").Append(report.Baseline is null ? "\n" : " ---: |\n");
        foreach (var row in report.Labels.Count == 1 ? report.Labels : [.. report.Labels, report.Total])
        {
            text.Append(CultureInfo.InvariantCulture, $"| {row.Label.Replace('|', '/').ReplaceLineEndings(" ")} | {row.Bytes:N0} | {row.Words:N0} | {row.Tokens:N0}{Beside(row.ReferenceTokens, "N0")} |");
            text.Append(CultureInfo.InvariantCulture, $" {row.TokensPerWord:F3}{Beside(row.ReferenceTokensPerWord, "F3")} | {row.BytesPerToken:F3}{Beside(row.ReferenceBytesPerToken, "F3")} | {row.UnknownRate * 100:F2} % |");
            text.Append(report.Baseline is null ? "\n" : string.Create(CultureInfo.InvariantCulture, $" {row.Ratio:F2}{Beside(row.ReferenceRatio, "F2")} |\n"));
        }

        return text.ToString();
    }

    private static string Beside<T>(T? value, string format)
        where T : struct, IFormattable => value is { } figure ? $" ({figure.ToString(format, CultureInfo.InvariantCulture)})" : "";
}
