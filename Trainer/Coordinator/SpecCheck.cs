using System.Globalization;
using System.Numerics;
using Grpc.Core;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Checks of single keys of a spec. Messages name the key, what it is, and what it may be.</summary>
internal static class SpecCheck
{
    /// <summary>A number within a range, both ends included.</summary>
    public static void InRange<T>(T value, T least, T most, string key, string? remedy = null) where T : INumber<T>
    {
        // NaN compares false with everything.
        if (!(value >= least && value <= most))
        {
            throw Invalid(key, $"is {Text(value)}, but must be from {Text(least)} to {Text(most)}{(remedy is null ? "" : $": {remedy}")}");
        }
    }

    /// <summary>A finite number above 0, up to a limit.</summary>
    public static void Positive(double value, double most, string key)
    {
        if (!(value > 0 && value <= most))
        {
            throw Invalid(key, $"is {Text(value)}, but must be above 0 and at most {Text(most)}");
        }
    }

    /// <summary>At least 0, below 1.</summary>
    public static void Share(double value, string key)
    {
        if (!(value is >= 0 and < 1))
        {
            throw Invalid(key, $"is {Text(value)}, but must be at least 0 and below 1");
        }
    }

    /// <summary>One of a few words.</summary>
    public static void OneOf(string value, IEnumerable<string> allowed, string key)
    {
        if (!allowed.Contains(value))
        {
            throw Invalid(key, $"is '{Printable(value)}', but must be one of: {string.Join(", ", allowed)}");
        }
    }

    /// <summary>Anything else.</summary>
    public static void That(bool condition, string key, FormattableString problem)
    {
        if (!condition)
        {
            throw Invalid(key, problem.ToString(CultureInfo.InvariantCulture));
        }
    }

    private static RpcException Invalid(string key, string problem) =>
        RpcErrors.Create(StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, $"{key} {problem}.");

    private static string Text<T>(T value) where T : INumber<T> => value.ToString(null, CultureInfo.InvariantCulture);

    private static string Printable(string text) => string.Concat(text.Take(60).Select(c => char.IsControl(c) ? '?' : c)) + (text.Length > 60 ? "..." : "");

    /// <summary>The divisors of a number that are nearest to another one, for messages.</summary>
    public static string Divisors(int number, int near)
    {
        var below = Enumerable.Range(1, Math.Min(near, number)).LastOrDefault(d => number % d == 0);
        var above = Enumerable.Range(near, Math.Max(0, number - near) + 1).FirstOrDefault(d => number % d == 0);
        return above == 0 ? $"{below}" : $"{below} and {above}";
    }
}
