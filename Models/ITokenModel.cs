namespace LlmPipeline.Models;

/// <summary>Predicts the next token: a network or an n-gram model.</summary>
public interface ITokenModel : IDisposable
{
    /// <summary>Number of ids.</summary>
    int VocabularySize { get; }

    /// <summary>Id that ends a text.</summary>
    int EndOfTextId { get; }

    /// <summary>
    /// Id that a text begins with: <see cref="EndOfTextId"/>, which only an empty prompt needs, or one of the model's own, which every
    /// prompt is begun with.
    /// </summary>
    int BeginOfTextId { get; }

    /// <summary>Most tokens that a prediction can depend on.</summary>
    int Context { get; }

    /// <summary>Positions that one generation can hold; null where there is no limit.</summary>
    int? MaxPositions { get; }

    /// <summary>Number of parameters; n-grams of an n-gram model.</summary>
    long ParameterCount { get; }

    /// <summary>Begins a generation of <paramref name="batch"/> sequences.</summary>
    IncrementalState BeginGeneration(int batch);
}
