namespace LlmPipeline.Text.Sources;

/// <summary>What is wrong with the text that a dataset should be made of.</summary>
public enum TextSourceProblem
{
    /// <summary>A source names nothing that exists, or nothing of a known format.</summary>
    NotFound,

    /// <summary>The sources hold no text, or too little for the wanted splits.</summary>
    Empty,

    /// <summary>A file is not what its name says: invalid UTF-8, a broken JSON line, a damaged archive.</summary>
    Invalid,

    /// <summary>A file is not the one that was there when the dataset was created.</summary>
    Changed,
}

/// <summary>The sources cannot be used. The message names the thing, the place and the remedy.</summary>
public sealed class TextSourceException(TextSourceProblem problem, string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>The kind of problem.</summary>
    public TextSourceProblem Problem { get; } = problem;
}
