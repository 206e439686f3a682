namespace LlmPipeline.Models;

/// <summary>What a classification head reads of the final hidden states of a document.</summary>
public enum Pooling
{
    /// <summary>That of the last id.</summary>
    Last,

    /// <summary>The mean over all ids.</summary>
    Mean,

    /// <summary>Of each channel the largest value over all ids ("max over time"; Collobert et al. 2011).</summary>
    Max,

    /// <summary>The last, the largest and the mean, side by side (Howard and Ruder 2018, "concat pooling"): three times as many channels.</summary>
    Concat,
}

/// <summary>Names of the ways to pool, in run specs and in the <c>classifier_pooling</c> of files.</summary>
public static class Poolings
{
    /// <summary>All names.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. Enum.GetValues<Pooling>().Select(NameOf)];

    /// <summary>Its name.</summary>
    public static string NameOf(Pooling pooling) => pooling switch
    {
        Pooling.Last => "last",
        Pooling.Mean => "mean",
        Pooling.Max => "max",
        _ => "concat",
    };

    /// <summary>The one of a name; null when there is none.</summary>
    public static Pooling? Of(string name) => Enum.GetValues<Pooling>().Cast<Pooling?>().FirstOrDefault(p => NameOf(p!.Value) == name);

    /// <summary>Hidden states side by side that the head reads.</summary>
    internal static int States(Pooling pooling) => pooling == Pooling.Concat ? 3 : 1;
}
