using System.CommandLine;
using LlmPipeline.Cli.Following;
using LlmPipeline.Cli.RunFiles;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe train</c>.</summary>
internal static class TrainCommand
{
    public static Command Create(GlobalOptions globals)
    {
        var file = new Argument<string>("FILE") { Description = "The run file (YAML), with the keys of RunSpec." };
        var set = new Option<string[]>("--set") { Description = "Sets a key over the file, for example training.steps=100. May be repeated; lists as [a,b] or one option for each item.", HelpName = "KEY=VALUE" };
        var id = new Option<string>("--run-id") { Description = "Id of the run, 4 to 63 of a-z, 0-9 and '-'. The server picks one otherwise.", HelpName = "ID" };
        var follow = new Option<bool>("--follow", "-f") { Description = "Watch the run to its end. Ctrl-C leaves it running." };
        var dryRun = new Option<bool>("--dry-run") { Description = "Only check the run file, and show the whole spec that would be trained, with every default and derived value." };
        var command = new CommandWithExamples(
            "train",
            "Starts the run that a run file describes.",
            "llmpipe train samples/own-text.yaml --set dataset.sources=books/ --follow",
            "llmpipe train samples/shakespeare-char.yaml --set \"dataset.sources=[input.txt]\" --set seed=2 --run-id shakespeare-2",
            "llmpipe train samples/own-text.yaml --set dataset.sources=books/ --set size=6 --dry-run")
        { file, set, id, follow, dryRun };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var spec = RunFile.Load(arguments.GetRequiredValue(file), arguments.GetValue(set) ?? [], session.Environment.Directory);
            if (arguments.GetValue(dryRun))
            {
                var request = new CreateRunRequest { Spec = spec, RunId = arguments.GetValue(id) ?? "", ValidateOnly = true };
                var resolved = (await session.Runs.CreateRunAsync(request, cancellationToken: cancellationToken)).Run.Spec;
                if (session.Json)
                {
                    session.WriteJson(resolved);
                }
                else
                {
                    session.WriteLine(YamlMessageWriter.Write(resolved).TrimEnd('\n'));
                }

                return ExitCodes.Succeeded;
            }

            var run = await StartAsync(session, spec, arguments.GetValue(id) ?? "", cancellationToken);
            if (!arguments.GetValue(follow))
            {
                if (session.Json)
                {
                    session.WriteJson(run);
                }
                else
                {
                    session.WriteLine($"{run.Name} is {RunText.NameOf(run.State)}. Watch it with 'llmpipe runs watch {run.Name}'.");
                }

                return ExitCodes.Succeeded;
            }

            if (!session.Json)
            {
                session.WriteLine(run.Name);
            }

            return await FollowAsync(session, run.Name, cancellationToken);
        });
        return command;
    }

    /// <summary>Creates a run; a repeated request after a lost answer makes no second one.</summary>
    public static async Task<Run> StartAsync(Session session, RunSpec spec, string runId, CancellationToken cancellationToken)
    {
        var request = new CreateRunRequest { Spec = spec, RunId = runId, RequestId = Guid.NewGuid().ToString() };
        return await CliTracing.TraceAsync(session.Environment, "llmpipe train", async () =>
            (await session.Runs.CreateRunAsync(request, cancellationToken: cancellationToken)).Run);
    }

    /// <summary>Follows a run and shows what came of it.</summary>
    public static async Task<int> FollowAsync(Session session, string name, CancellationToken cancellationToken)
    {
        var run = await RunFollower.FollowAsync(session, name, cancellationToken);
        if (run is not null && !session.Json)
        {
            if (run.State == Run.Types.State.Succeeded)
            {
                ResultTable.Write(session, run);
            }

            session.WriteLine(RunText.Outcome(run));
        }

        return RunFollower.ExitCode(run);
    }
}
