namespace LlmPipeline.Gateway.Engine;

/// <summary>What a caller wants to have classified, over REST or gRPC. <see cref="Validate"/> checks it.</summary>
internal sealed record ClassificationParameters
{
    /// <summary>Most texts of a request.</summary>
    public const int MaxInputs = 256;

    public required string Model { get; init; }

    public IReadOnlyList<string> Inputs { get; init; } = [];

    /// <summary>When the caller stops waiting.</summary>
    public DateTimeOffset Deadline { get; init; } = DateTimeOffset.MaxValue;

    /// <exception cref="GatewayException">A value is out of its range; the message names it, the range and the value.</exception>
    public void Validate(GatewayOptions options)
    {
        if (Model.Length == 0)
        {
            throw GatewayException.Invalid("model", "model is missing: give the id of a published classifier, for example \"my-model\".");
        }

        if (Inputs.Count is 0 or > MaxInputs)
        {
            throw GatewayException.Invalid("input", $"input has {Inputs.Count} texts: give 1 to {MaxInputs}.");
        }

        var characters = Inputs.Sum(text => (long)text.Length);
        if (characters > options.MaxPromptCharacters)
        {
            throw GatewayException.Invalid("input", $"input has {characters} characters: give at most {options.MaxPromptCharacters}, in several requests.");
        }
    }
}
