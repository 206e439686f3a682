namespace LlmPipeline.Models;

// B = batch, T = time, V = vocabulary

/// <summary>What a model knows of a generation. Positions beyond its limit are the caller's to avoid: begin again with the newest ids.</summary>
public abstract class IncrementalState : IDisposable
{
    /// <summary>Positions held.</summary>
    public abstract int Length { get; }

    /// <summary>Appends T ids to each sequence and returns the logits after the last of them.</summary>
    /// <param name="ids_BT">Row by row; every sequence gets as many.</param>
    /// <param name="logits_BV">Receives the logits, row by row.</param>
    /// <exception cref="ArgumentException">The lengths do not fit, an id is not of the vocabulary, or the context is full.</exception>
    public abstract void Append(ReadOnlySpan<int> ids_BT, Span<float> logits_BV);

    /// <inheritdoc/>
    public abstract void Dispose();
}
