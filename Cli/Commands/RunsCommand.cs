using System.CommandLine;
using System.Globalization;
using LlmPipeline.Cli.Following;
using LlmPipeline.Cli.RunFiles;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe runs</c>.</summary>
internal static class RunsCommand
{
    public static Command Create(GlobalOptions globals) => new CommandWithExamples(
        "runs",
        "Lists, shows, watches, reports on, cancels and resumes runs.",
        "llmpipe runs list",
        "llmpipe runs show my-run --spec > again.yaml",
        "llmpipe runs resume my-run --checkpoint runs/my-run/checkpoints/00000500")
    {
        List(globals), Show(globals), Watching(globals), Report(globals), Cancel(globals), Resume(globals),
    };

    private static Command List(GlobalOptions globals)
    {
        var command = new Command("list", "Lists runs, newest first.");
        globals.SetAction(command, async (_, session, cancellationToken) =>
        {
            var runs = await Session.ListAsync(
                async token => await session.Runs.ListRunsAsync(new ListRunsRequest { PageToken = token }, cancellationToken: cancellationToken),
                r => r.Runs,
                r => r.NextPageToken);
            if (session.Json)
            {
                session.WriteJson(runs);
                return ExitCodes.Succeeded;
            }

            Listing.Write(session, "No runs yet. Start one with 'llmpipe quickstart' or 'llmpipe train FILE.yaml'.", ["run", "state", "step", "loss", "model", "created"], runs.Select(r => new[]
            {
                r.Name,
                RunText.NameOf(r.State),
                r.Progress is null ? "" : RunText.Invariant($"{r.Progress.Step:N0}/{r.Progress.TotalSteps:N0}"),
                Loss(r)?.ToString("F4", CultureInfo.InvariantCulture) ?? "",
                r.ModelVersion,
                RunText.Moment(r.CreateTime),
            }));
            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static Command Show(GlobalOptions globals)
    {
        var run = RunArgument();
        var spec = new Option<bool>("--spec") { Description = "Print the resolved spec as a run file, which gives the same run again." };
        var command = new Command("show", "Shows a run.") { run, spec };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var found = await GetAsync(session, arguments.GetRequiredValue(run), cancellationToken);
            if (arguments.GetValue(spec))
            {
                if (session.Json)
                {
                    session.WriteJson(found.Spec);
                }
                else
                {
                    session.Environment.Out.Write(YamlMessageWriter.Write(found.Spec));
                }
            }
            else if (session.Json)
            {
                session.WriteJson(found);
            }
            else
            {
                session.WriteLine($"{RunText.NameOf(found.State)}  attempt {found.Attempt}  {RunText.Progress(found)}".TrimEnd());
                foreach (var entry in found.Events)
                {
                    session.WriteLine($"{entry.Time?.ToDateTimeOffset().ToLocalTime().ToString("HH:mm:ss", CultureInfo.InvariantCulture)}  {entry.Message}");
                }

                ResultTable.Write(session, found);
                session.WriteLine(RunText.Outcome(found));
            }

            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static Command Watching(GlobalOptions globals)
    {
        var run = RunArgument();
        var command = new Command("watch", "Follows a run to its end. Ctrl-C leaves it running.") { run };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var found = await GetAsync(session, arguments.GetRequiredValue(run), cancellationToken);
            return await TrainCommand.FollowAsync(session, found.Name, cancellationToken);
        });
        return command;
    }

    private static Command Report(GlobalOptions globals)
    {
        var run = RunArgument();
        var output = new Option<string>("--output", "-o") { Description = "Write report.md, report.json and the curves (SVG) into this folder. Default: print the Markdown; with --json the JSON.", HelpName = "FOLDER" };
        var command = new Command("report", "Reports on a run: result, curves, samples, time, configuration.") { run, output };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var request = new GetRunReportRequest { Name = Session.NameOf("runs", arguments.GetRequiredValue(run)) };
            var files = (await session.Runs.GetRunReportAsync(request, cancellationToken: cancellationToken)).Files;
            if (arguments.GetValue(output) is { } folder)
            {
                ReportOutput.WriteFolder(session, folder, files.Select(f => (f.Path, f.Text)));
            }
            else
            {
                var shown = files.First(f => f.Path == (session.Json ? "report.json" : "report.md")).Text;
                session.Environment.Out.Write(session.Json ? shown : TerminalText.Safe(shown));
            }

            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static Command Cancel(GlobalOptions globals)
    {
        var run = RunArgument();
        var command = new Command("cancel", "Asks a run to stop after its present step and a checkpoint.") { run };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var request = new CancelRunRequest { Name = Session.NameOf("runs", arguments.GetRequiredValue(run)) };
            Report(session, (await session.Runs.CancelRunAsync(request, cancellationToken: cancellationToken)).Run);
            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static Command Resume(GlobalOptions globals)
    {
        var run = RunArgument();
        var checkpoint = new Option<string>("--checkpoint") { Description = "Where to go on, a name like runs/RUN/checkpoints/STEP. Default: the newest.", HelpName = "NAME" };
        var follow = new Option<bool>("--follow", "-f") { Description = "Watch the run to its end. Ctrl-C leaves it running." };
        var command = new Command("resume", "Goes on with a failed or cancelled run, from a checkpoint.") { run, checkpoint, follow };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var request = new ResumeRunRequest { Name = Session.NameOf("runs", arguments.GetRequiredValue(run)), Checkpoint = arguments.GetValue(checkpoint) ?? "" };
            var resumed = (await session.Runs.ResumeRunAsync(request, cancellationToken: cancellationToken)).Run;
            if (arguments.GetValue(follow))
            {
                return await TrainCommand.FollowAsync(session, resumed.Name, cancellationToken);
            }

            Report(session, resumed);
            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static Argument<string> RunArgument() => new("RUN") { Description = "Id of the run, or its name (runs/ID)." };

    private static double? Loss(Run run) => run.Evaluation?.Model?.Loss
        ?? (run.Progress is { HasValidationLoss: true } validated ? validated.ValidationLoss : run.Progress is { HasTrainLoss: true } trained ? trained.TrainLoss : null);

    private static async Task<Run> GetAsync(Session session, string idOrName, CancellationToken cancellationToken) =>
        (await session.Runs.GetRunAsync(new GetRunRequest { Name = Session.NameOf("runs", idOrName) }, cancellationToken: cancellationToken)).Run;

    private static void Report(Session session, Run run)
    {
        if (session.Json)
        {
            session.WriteJson(run);
        }
        else
        {
            session.WriteLine($"{run.Name} is {RunText.NameOf(run.State)}.");
        }
    }
}
