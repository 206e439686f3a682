using System.CommandLine;
using System.Globalization;
using Grpc.Core;
using LlmPipeline.Cli.RunFiles;
using LlmPipeline.Datasets.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe datasets create</c>, <c>watch</c> and <c>cancel</c>.</summary>
internal static class DatasetsCreateCommand
{
    public static Command Create(GlobalOptions globals)
    {
        var file = new Argument<string?>("FILE") { Description = "The dataset file (YAML), with the keys of DatasetSpec.", Arity = ArgumentArity.ZeroOrOne };
        var source = new Option<string[]>("--source") { Description = "A file, folder, glob or address, instead of a file's. May be repeated." };
        var set = new Option<string[]>("--set") { Description = "Sets a key over the file, for example tokenizer.kind=word. May be repeated; lists as [a,b] or one option for each item.", HelpName = "KEY=VALUE" };
        var id = new Option<string>("--dataset-id") { Description = "Id of the dataset, 4 to 63 of a-z, 0-9 and '-'. The server picks one otherwise.", HelpName = "ID" };
        var follow = new Option<bool>("--follow", "-f") { Description = "Watch the dataset to its end. Ctrl-C leaves it in the making." };
        var command = new CommandWithExamples(
            "create", "Makes a dataset, or finds the one that is there.",
            "llmpipe datasets create samples/mixture.yaml --follow",
            "llmpipe datasets create --source texts/ --set tokenizer.kind=character")
        { file, source, set, id, follow };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var spec = RunFile.LoadDataset(arguments.GetValue(file), arguments.GetValue(source) ?? [], arguments.GetValue(set) ?? [], session.Environment.Directory);
            var request = new CreateDatasetRequest { Spec = spec, DatasetId = arguments.GetValue(id) ?? "" };
            var dataset = await CliTracing.TraceAsync(session.Environment, "llmpipe datasets create", async () =>
                (await session.Datasets.CreateDatasetAsync(request, cancellationToken: cancellationToken)).Dataset);
            if (arguments.GetValue(follow))
            {
                return await FollowAsync(session, dataset.Name, cancellationToken);
            }

            Write(session, dataset, $"{dataset.Name} is {DatasetsCommand.StateOf(dataset)}. Watch it with 'llmpipe datasets watch {dataset.Name}'.");
            return ExitCodes.Succeeded;
        });
        return command;
    }

    public static Command Watch(GlobalOptions globals)
    {
        var dataset = new Argument<string>("DATASET") { Description = "Id of the dataset, or its name (datasets/ID)." };
        var command = new Command("watch", "Watches a dataset to its end.") { dataset };
        globals.SetAction(command, (arguments, session, cancellationToken) =>
            FollowAsync(session, Session.NameOf("datasets", arguments.GetRequiredValue(dataset)), cancellationToken));
        return command;
    }

    public static Command Cancel(GlobalOptions globals)
    {
        var dataset = new Argument<string>("DATASET") { Description = "Id of the dataset, or its name (datasets/ID)." };
        var command = new Command("cancel", "Stops the making of a dataset.") { dataset };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var request = new CancelDatasetRequest { Name = Session.NameOf("datasets", arguments.GetRequiredValue(dataset)) };
            var found = (await session.Datasets.CancelDatasetAsync(request, cancellationToken: cancellationToken)).Dataset;
            Write(session, found, $"{found.Name} is {DatasetsCommand.StateOf(found)}.");
            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static async Task<int> FollowAsync(Session session, string name, CancellationToken cancellationToken)
    {
        Dataset? last = null;
        try
        {
            var changes = Following.Watch.ReadAsync(
                (after, token) => session.Datasets.WatchDataset(new WatchDatasetRequest { Name = name, AfterSequence = after }, cancellationToken: token),
                r => r.Sequence,
                r => IsOver(r.Dataset),
                session.Environment.Patience,
                () => session.Environment.Error.WriteLine("The connection broke; trying again."),
                cancellationToken);
            await foreach (var change in changes)
            {
                if (last is null || last.State != change.Dataset.State || Percent(last) != Percent(change.Dataset))
                {
                    Write(session, change.Dataset, Line(change.Dataset));
                }

                last = change.Dataset;
            }
        }
        catch (Exception exception) when (cancellationToken.IsCancellationRequested && exception is OperationCanceledException or RpcException)
        {
            session.Environment.Error.WriteLine($"{name} goes on without being watched. Cancel it with 'llmpipe datasets cancel {name}'.");
            return ExitCodes.Cancelled;
        }

        return last?.State switch
        {
            Dataset.Types.State.Ready => ExitCodes.Succeeded,
            Dataset.Types.State.Failed => ExitCodes.Failed,
            _ => ExitCodes.Cancelled,
        };
    }

    private static void Write(Session session, Dataset dataset, string line)
    {
        if (session.Json)
        {
            session.WriteJson(dataset);
        }
        else
        {
            session.WriteLine(line);
        }
    }

    private static string Line(Dataset dataset) => dataset.State switch
    {
        Dataset.Types.State.Failed => $"{dataset.Name} FAILED: {dataset.Error?.Message} ({dataset.Error?.Reason})",
        Dataset.Types.State.Ready => string.Create(CultureInfo.InvariantCulture,
            $"{dataset.Name} READY: {string.Join(", ", dataset.Splits.Select(s => string.Create(CultureInfo.InvariantCulture, $"{s.TokenCount:N0} {s.Split} tokens")))}, {dataset.Tokenizer}"),
        _ => string.Create(CultureInfo.InvariantCulture,
            $"{dataset.Name} {DatasetsCommand.StateOf(dataset)} {Percent(dataset)} %{(dataset.Progress is { HasRemainingSeconds: true } p ? string.Create(CultureInfo.InvariantCulture, $", {p.RemainingSeconds:F0} s left") : "")}"),
    };

    private static int Percent(Dataset dataset) => (int)(100 * (dataset.Progress?.Fraction ?? 0));

    private static bool IsOver(Dataset dataset) =>
        dataset.State is Dataset.Types.State.Ready or Dataset.Types.State.Failed or Dataset.Types.State.Cancelled;
}
