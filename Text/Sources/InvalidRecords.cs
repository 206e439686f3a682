namespace LlmPipeline.Text.Sources;

/// <summary>What happens to a record that cannot be read.</summary>
public enum InvalidRecords
{
    /// <summary>It is an error.</summary>
    Fail,

    /// <summary>It is counted and left out; where records cannot be told apart, so is the rest of its file.</summary>
    Skip,
}

/// <summary>Records that were left out because they cannot be read.</summary>
/// <param name="Count">How many; the rest of a file counts as one.</param>
/// <param name="Reasons">What was wrong with the first of them, with file and place.</param>
public sealed record SkippedRecords(long Count, IReadOnlyList<string> Reasons)
{
    /// <summary>Reasons that are kept, at most.</summary>
    public const int MaxReasons = 10;

    /// <summary>No record.</summary>
    public static SkippedRecords None { get; } = new(0, []);

    /// <summary>These and those that follow.</summary>
    public SkippedRecords Add(SkippedRecords next) => next.Count == 0 ? this
        : Count == 0 ? next
        : new(Count + next.Count, [.. Reasons, .. next.Reasons.Take(MaxReasons - Reasons.Count)]);

    /// <summary>These and one more.</summary>
    internal SkippedRecords Add(string reason) => Add(new SkippedRecords(1, [reason]));
}
