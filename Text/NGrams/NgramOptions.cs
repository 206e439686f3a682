namespace LlmPipeline.Text.NGrams;

/// <summary>How an n-gram model turns counts into probabilities.</summary>
public enum NgramSmoothing
{
    /// <summary>Interpolated modified Kneser-Ney (Chen and Goodman 1998).</summary>
    KneserNey,

    /// <summary>Relative frequencies; what was never seen after a context has probability 0.</summary>
    MaximumLikelihood,

    /// <summary>A constant added to each count (Lidstone; 1 is Laplace).</summary>
    AddK,

    /// <summary>Katz back-off with Good-Turing discounts (Katz 1987).</summary>
    GoodTuring,
}

/// <summary>What kind of n-gram model.</summary>
public sealed record NgramOptions
{
    /// <summary>Longest order.</summary>
    public const int MaxOrder = 16;

    private static readonly string[] Names = ["kneser-ney", "maximum-likelihood", "add-k", "good-turing"];

    /// <summary>The names of the smoothings, as in run files and <c>config.json</c>.</summary>
    public static IReadOnlyList<string> SmoothingNames => Names;

    /// <summary>Tokens in the longest n-gram, 1 to <see cref="MaxOrder"/>.</summary>
    public int Order { get; init; } = 3;

    /// <summary>How counts become probabilities.</summary>
    public NgramSmoothing Smoothing { get; init; }

    /// <summary>What <see cref="NgramSmoothing.AddK"/> adds to each count; above 0.</summary>
    public double K { get; init; } = 1;

    /// <summary>The name of <see cref="Smoothing"/>.</summary>
    public string SmoothingName => Names[(int)Smoothing];

    /// <summary>The smoothing of a name.</summary>
    /// <exception cref="ArgumentException">There is none.</exception>
    public static NgramSmoothing ParseSmoothing(string name) => Array.IndexOf(Names, name) is >= 0 and var index
        ? (NgramSmoothing)index
        : throw new ArgumentException($"There is no smoothing '{name}'; there are {string.Join(", ", Names)}.", nameof(name));

    /// <summary>Throws unless a model can be made.</summary>
    /// <exception cref="ArgumentException">A number is out of its range; the message names it.</exception>
    public void Validate()
    {
        if (Order is < 1 or > MaxOrder)
        {
            throw new ArgumentException($"The order is {Order}; it must be from 1 to {MaxOrder}.");
        }

        if (!Enum.IsDefined(Smoothing))
        {
            throw new ArgumentException($"There is no smoothing {(int)Smoothing}.");
        }

        if (!(K > 0 && double.IsFinite(K)))
        {
            throw new ArgumentException($"k is {K}; it must be above 0.");
        }
    }
}
