using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli.Following;

/// <summary>Follows a run to its end.</summary>
internal static class RunFollower
{
    /// <summary>Shows a run's progress until it is over; returns the finished run, or null when the user stopped looking.</summary>
    public static async Task<Run?> FollowAsync(Session session, string name, CancellationToken cancellationToken)
    {
        try
        {
            Run? last = null;
            await WithViewAsync(session, async view =>
            {
                var changes = Watch.ReadAsync(
                    (after, token) => session.Runs.WatchRun(new WatchRunRequest { Name = name, AfterSequence = after }, cancellationToken: token),
                    r => r.Sequence,
                    r => IsOver(r.Run),
                    session.Environment.Patience,
                    view.ConnectionLost,
                    cancellationToken);
                await foreach (var change in changes)
                {
                    last = change.Run;
                    view.Show(last);
                }
            });
            return last;
        }
        catch (Exception exception) when (cancellationToken.IsCancellationRequested && exception is OperationCanceledException or Grpc.Core.RpcException)
        {
            if (!session.Json)
            {
                session.Environment.Error.WriteLine();
                session.Environment.Error.WriteLine($"{name} goes on without being watched.");
                session.Environment.Error.WriteLine($"  watch it again:  llmpipe runs watch {name}");
                session.Environment.Error.WriteLine($"  cancel it:       llmpipe runs cancel {name}");
            }

            return null;
        }
    }

    /// <summary>Exit code of a followed run: what it came to.</summary>
    public static int ExitCode(Run? run) => run?.State switch
    {
        Run.Types.State.Succeeded => ExitCodes.Succeeded,
        Run.Types.State.Cancelled or null => ExitCodes.Cancelled,
        _ => ExitCodes.Failed,
    };

    /// <summary>Whether a run has come to an end (it may be resumed).</summary>
    public static bool IsOver(Run run) => run.State is Run.Types.State.Succeeded or Run.Types.State.Cancelled or Run.Types.State.Failed;

    private static Task WithViewAsync(Session session, Func<IRunView, Task> follow) =>
        session.Json ? follow(new JsonRunView(session))
        : session.Environment.IsTerminal && session.Environment.Console.Profile.Capabilities.Ansi ? LiveRunView.RunAsync(session.Environment.Console, follow)
        : follow(new PlainRunView(session.Environment));
}

/// <summary>Shows a run while it is followed.</summary>
internal interface IRunView
{
    /// <summary>Shows the present version.</summary>
    void Show(Run run);

    /// <summary>Says that the connection is lost, and that it is being looked for.</summary>
    void ConnectionLost();
}

/// <summary>A line of JSON for every version.</summary>
internal sealed class JsonRunView(Session session) : IRunView
{
    public void Show(Run run) => session.WriteJson(run);

    public void ConnectionLost()
    {
    }
}
