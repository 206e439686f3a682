using LlmPipeline.Models;

namespace LlmPipeline.Gateway.Engine;

/// <summary>What a caller asks for, over REST or gRPC. <see cref="Validate"/> checks it.</summary>
internal sealed record GenerationParameters
{
    /// <summary>Most stop texts.</summary>
    public const int MaxStops = 4;

    /// <summary>Longest stop text, in characters.</summary>
    public const int MaxStopLength = 512;

    public required string Model { get; init; }

    public string Prompt { get; init; } = "";

    public long MaxTokens { get; init; }

    public double Temperature { get; init; } = 1;

    public double TopP { get; init; } = 1;

    public long TopK { get; init; }

    /// <summary>Null: a new one for every request.</summary>
    public long? Seed { get; init; }

    public IReadOnlyList<string> Stop { get; init; } = [];

    /// <summary>When the caller stops waiting.</summary>
    public DateTimeOffset Deadline { get; init; } = DateTimeOffset.MaxValue;

    /// <exception cref="GatewayException">A value is out of its range; the message names it, the range and the value.</exception>
    public void Validate(GatewayOptions options)
    {
        Require(Model.Length > 0, "model", "model is missing: give the id of a published model, for example \"my-model\".");
        Require(MaxTokens >= 1 && MaxTokens <= options.MaxTokens, "max_tokens", $"max_tokens is {MaxTokens}: give a number from 1 to {options.MaxTokens}.");
        Require(Temperature is >= 0 and <= 2, "temperature", $"temperature is {Temperature}: give a number from 0 (greedy) to 2.");
        Require(TopP is > 0 and <= 1, "top_p", $"top_p is {TopP}: give a number above 0, at most 1.");
        Require(TopK is >= 0 and <= int.MaxValue, "top_k", $"top_k is {TopK}: give 0 (all tokens) or a positive number.");
        Require(Prompt.Length <= options.MaxPromptCharacters, "prompt", $"prompt has {Prompt.Length} characters: give at most {options.MaxPromptCharacters}.");
        Require(Stop.Count <= MaxStops, "stop", $"stop has {Stop.Count} texts: give at most {MaxStops}.");
        foreach (var stop in Stop)
        {
            Require(stop.Length is > 0 and <= MaxStopLength, "stop", $"a stop text has {stop.Length} characters: give 1 to {MaxStopLength}.");
        }
    }

    /// <summary>How tokens are chosen.</summary>
    public SamplingOptions ToSampling() => new()
    {
        Temperature = Temperature,
        TopP = TopP,
        TopK = (int)TopK,
        Seed = Seed ?? Random.Shared.NextInt64(),
    };

    private static void Require(bool condition, string parameter, string message)
    {
        if (!condition)
        {
            throw GatewayException.Invalid(parameter, message);
        }
    }
}
