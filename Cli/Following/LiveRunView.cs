using System.Collections.Concurrent;
using LlmPipeline.Runs.V1;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace LlmPipeline.Cli.Following;

/// <summary>A progress bar for each stage, on a terminal.</summary>
internal sealed class LiveRunView : IRunView
{
    private readonly IAnsiConsole _console;
    private readonly EventLog _events = new();
    private readonly Dictionary<Run.Types.State, ProgressTask> _tasks;

    private readonly FiguresColumn _figures;

    private LiveRunView(IAnsiConsole console, ProgressContext context, FiguresColumn figures)
    {
        (_console, _figures) = (console, figures);
        _tasks = RunText.Stages.Where(s => s != Run.Types.State.Queued)
            .ToDictionary(s => s, s => context.AddTask(Title(s), new ProgressTaskSettings { AutoStart = false, MaxValue = 1 }));
    }

    public static Task RunAsync(IAnsiConsole console, Func<IRunView, Task> follow)
    {
        var figures = new FiguresColumn();
        return console.Progress()
            .AutoClear(false)
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn { Width = 24 }, new PercentageColumn(), figures)
            .StartAsync(context => follow(new LiveRunView(console, context, figures)));
    }

    public void Show(Run run)
    {
        foreach (var text in _events.New(run))
        {
            _console.WriteLine(TerminalText.Safe(text));
        }

        var stage = run.State == Run.Types.State.Cancelling ? Run.Types.State.Training : run.State;
        foreach (var (state, task) in _tasks)
        {
            if (state < stage && stage is not (Run.Types.State.Cancelled or Run.Types.State.Failed))
            {
                Start(task);
                task.Value = 1;
                task.StopTask();
            }
            else if (state == stage)
            {
                Start(task);
                task.Value = Math.Clamp(run.Progress?.Fraction ?? 0, 0, 0.999);
                _figures.Of[task.Id] = TerminalText.Safe(RunText.Progress(run));
            }
        }
    }

    public void ConnectionLost() => _console.WriteLine("The connection is lost; looking for the server.");

    private static void Start(ProgressTask task)
    {
        if (!task.IsStarted)
        {
            task.StartTask();
        }
    }

    private static string Title(Run.Types.State state)
    {
        var name = state.ToString();
        return name[..1] + name[1..].ToLowerInvariant();
    }

    private sealed class FiguresColumn : ProgressColumn
    {
        public ConcurrentDictionary<int, string> Of { get; } = new();

        public override IRenderable Render(RenderOptions options, ProgressTask task, TimeSpan deltaTime) =>
            new Text(Of.GetValueOrDefault(task.Id, "")).Overflow(Overflow.Ellipsis);
    }
}
