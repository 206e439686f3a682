using System.Globalization;
using Grpc.Core;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Preprocessor;

/// <summary>Checks of the fields of a spec; what is wrong is named with its field and what is allowed.</summary>
internal static class SpecChecks
{
    private const int QuotedLength = 80;

    public static void Require(bool condition, string field, string problem)
    {
        if (!condition)
        {
            throw Invalid(field, problem);
        }
    }

    public static void RequireOneOf(string value, string field, params string[] allowed) =>
        Require(allowed.Contains(value), field, $"is '{Quoted(value)}'; it has to be one of {string.Join(", ", allowed)}.");

    public static void RequireBetween(double value, double least, double most, string field) =>
        Require(value >= least && value <= most, field, string.Create(CultureInfo.InvariantCulture, $"is {value}; it has to be from {least} to {most}."));

    public static void RequireNotNegative(long value, string field, string meaningOfZero) =>
        Require(value >= 0, field, $"is {value}; use 0 {meaningOfZero}, or a positive number.");

    public static string Quoted(string value) => value.Length > QuotedLength ? value[..QuotedLength] : value;

    public static RpcException Invalid(string field, string problem) =>
        RpcErrors.Create(StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, field == "spec" ? $"spec {problem}" : $"spec.{field} {problem}");
}
