using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Runs.V1;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Which state may follow which: the table behind the comment of <c>Run.State</c> in run.proto.</summary>
internal static class RunStates
{
    /// <summary>From each state, the states it may lead to.</summary>
    public static readonly IReadOnlyDictionary<State, IReadOnlyList<State>> Transitions = new Dictionary<State, IReadOnlyList<State>>
    {
        [State.Queued] = [State.Preparing, State.Failed, State.Cancelling],
        [State.Preparing] = [State.Training, State.Failed, State.Cancelling],
        [State.Training] = [State.Evaluating, State.Failed, State.Cancelling],
        [State.Evaluating] = [State.Publishing, State.Failed, State.Cancelling],
        [State.Publishing] = [State.Succeeded, State.Failed, State.Cancelling],
        [State.Cancelling] = [State.Cancelled],
        [State.Cancelled] = [State.Queued],
        [State.Failed] = [State.Queued],
        [State.Succeeded] = [],
    };

    /// <summary>Whether nothing happens any more to a run in this state, unless it is resumed.</summary>
    public static bool IsTerminal(State state) => state is State.Succeeded or State.Cancelled or State.Failed;

    /// <summary>The state's name in messages, for example TRAINING.</summary>
    public static string NameOf(State state) => state.ToString().ToUpperInvariant();

    /// <summary>Moves a run to another state, with the event.</summary>
    /// <exception cref="InvalidOperationException">The table does not allow it.</exception>
    public static void Move(Run run, State to, DateTimeOffset now, string? why = null)
    {
        if (!Transitions[run.State].Contains(to))
        {
            throw new InvalidOperationException($"{run.Name} is {NameOf(run.State)} and cannot become {NameOf(to)}.");
        }

        run.Progress ??= new RunProgress();
        RunEvents.Add(run, RunEvents.StateChanged, $"{NameOf(run.State)} -> {NameOf(to)}{(why is null ? "" : $": {why}")}", now);
        run.State = to;
        run.EndTime = IsTerminal(to) ? Timestamp.FromDateTimeOffset(now) : null;
        run.Progress.Fraction = to == State.Succeeded ? 1 : to is State.Cancelling || IsTerminal(to) ? run.Progress.Fraction : 0;
        run.Progress.ClearRemainingSeconds();
        if (to is not (State.Training or State.Cancelling))
        {
            run.Progress.ClearTokensPerSecond();
            run.Workers.Clear();
        }
    }
}
