using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>A stage cannot be done; the run fails with this error.</summary>
/// <param name="reason">One of <see cref="ServiceDefaults.ErrorReasons"/>, or the reason that another service gave.</param>
/// <param name="message">One sentence for a person: the thing, the place, the remedy.</param>
/// <param name="inner">The cause.</param>
internal sealed class StageFailedException(string reason, string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>For the record of the run.</summary>
    public RunError Error => new() { Reason = reason, Message = Message };
}
