using System.Globalization;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli.Following;

/// <summary>A line for each change of state, each event, and every few seconds of progress.</summary>
internal sealed class PlainRunView(CliEnvironment environment) : IRunView
{
    private readonly EventLog _events = new();
    private Run.Types.State _state;
    private long _shownAt;
    private string _shown = "";

    public void Show(Run run)
    {
        foreach (var text in _events.New(run))
        {
            Line(text);
        }

        var now = Environment.TickCount64;
        var progress = Progress(run);
        if (run.State != _state)
        {
            _state = run.State;
            Line($"{RunText.NameOf(run.State),-11} {progress}".TrimEnd());
        }
        else if (progress != _shown && now - _shownAt >= environment.ProgressInterval.TotalMilliseconds && !RunFollower.IsOver(run))
        {
            Line($"{RunText.NameOf(run.State),-11} {progress}");
        }
        else
        {
            return;
        }

        (_shown, _shownAt) = (progress, now);
    }

    public void ConnectionLost() => Line("the connection is lost; looking for the server");

    private static string Progress(Run run) => run.Progress is { Fraction: > 0 } progress && !RunFollower.IsOver(run)
        ? string.Create(CultureInfo.InvariantCulture, $"{Math.Floor(progress.Fraction * 100),3:F0}%  {RunText.Progress(run)}").TrimEnd()
        : RunText.Progress(run);

    private void Line(string text)
    {
        environment.Out.WriteLine($"{DateTime.Now.ToString("HH:mm:ss", CultureInfo.InvariantCulture)}  {TerminalText.Safe(text)}");
        environment.Out.Flush();
    }
}

/// <summary>Finds the events of a run that were not shown yet.</summary>
internal sealed class EventLog
{
    private long _last;

    /// <summary>New ones, oldest first; changes of state, which are shown anyway, are left out.</summary>
    public IEnumerable<string> New(Run run)
    {
        var events = run.Events.Where(e => e.Sequence > _last).ToList();
        if (events.Count == 0)
        {
            return [];
        }

        // A run does not keep all of its events.
        var missed = _last > 0 ? events[^1].Sequence - _last - events.Count : 0;
        _last = events[^1].Sequence;
        return [.. missed > 0 ? [$"({missed} events are not kept any more)"] : Array.Empty<string>(), .. events.Where(e => e.Kind != "STATE_CHANGED").Select(e => e.Message)];
    }
}
