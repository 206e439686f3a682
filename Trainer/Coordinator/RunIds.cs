using System.Security.Cryptography;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Ids for runs whose caller gave none: easy to read, say and type, for example <c>calm-heron-3f9a</c>.</summary>
internal static class RunIds
{
    private static readonly string[] Adjectives =
    [
        "amber", "bold", "brisk", "calm", "clear", "cosmic", "crisp", "eager", "fair", "fleet", "gentle", "golden", "keen", "lively", "lucid", "mellow",
        "nimble", "noble", "plain", "proud", "quick", "quiet", "rapid", "sharp", "silver", "smooth", "solid", "sunny", "swift", "tidy", "vivid", "warm",
    ];

    private static readonly string[] Nouns =
    [
        "badger", "beaver", "crane", "dolphin", "eagle", "falcon", "ferret", "finch", "gecko", "gull", "hare", "heron", "ibex", "jay", "kestrel", "lark",
        "lynx", "marten", "newt", "orca", "osprey", "otter", "owl", "panda", "puffin", "raven", "robin", "seal", "stork", "swan", "tern", "wren",
    ];

    /// <summary>A new id, one of 67 million.</summary>
    public static string New() =>
        $"{Pick(Adjectives)}-{Pick(Nouns)}-{RandomNumberGenerator.GetHexString(4, lowercase: true)}";

    private static string Pick(string[] words) => words[RandomNumberGenerator.GetInt32(words.Length)];
}
