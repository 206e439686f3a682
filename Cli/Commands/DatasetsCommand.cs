using System.CommandLine;
using System.Globalization;
using LlmPipeline.Cli.Following;
using LlmPipeline.Cli.RunFiles;
using LlmPipeline.Datasets.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe datasets</c>.</summary>
internal static class DatasetsCommand
{
    public static Command Create(GlobalOptions globals) => new CommandWithExamples("datasets", "Makes datasets of text, which runs do too, and shows them.", "llmpipe datasets create samples/mixture.yaml --follow", "llmpipe datasets list", "llmpipe datasets show DATASET --json", "llmpipe datasets card DATASET")
    {
        DatasetsCreateCommand.Create(globals), List(globals), Show(globals), Card(globals), DatasetsCreateCommand.Watch(globals), DatasetsCreateCommand.Cancel(globals),
    };

    private static Command List(GlobalOptions globals)
    {
        var command = new Command("list", "Lists datasets, newest first.");
        globals.SetAction(command, async (_, session, cancellationToken) =>
        {
            var datasets = await Session.ListAsync(
                async token => await session.Datasets.ListDatasetsAsync(new ListDatasetsRequest { PageToken = token }, cancellationToken: cancellationToken),
                r => r.Datasets,
                r => r.NextPageToken);
            if (session.Json)
            {
                session.WriteJson(datasets);
                return ExitCodes.Succeeded;
            }

            Listing.Write(session, "No datasets yet. A run makes one from its sources.", ["dataset", "state", "tokenizer", "vocabulary", "tokens", "sources", "created"], datasets.Select(d => new[]
            {
                d.Name,
                StateOf(d),
                d.Tokenizer,
                d.VocabularySize == 0 ? "" : Number(d.VocabularySize),
                Number(d.Splits.Sum(s => s.TokenCount)),
                string.Join(", ", d.Spec is null ? [] : d.Spec.Mixture.Count > 0 ? d.Spec.Mixture.Select(p => p.Label) : d.Spec.Sources),
                RunText.Moment(d.CreateTime),
            }));
            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static Command Show(GlobalOptions globals)
    {
        var dataset = new Argument<string>("DATASET") { Description = "Id of the dataset, or its name (datasets/ID)." };
        var command = new Command("show", "Shows a dataset.") { dataset };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var request = new GetDatasetRequest { Name = Session.NameOf("datasets", arguments.GetRequiredValue(dataset)) };
            var found = (await session.Datasets.GetDatasetAsync(request, cancellationToken: cancellationToken)).Dataset;
            if (session.Json)
            {
                session.WriteJson(found);
                return ExitCodes.Succeeded;
            }

            session.WriteLine($"{found.Name} is {StateOf(found)}");
            if (found.Error is { } error)
            {
                session.WriteLine($"{error.Message} ({error.Reason})");
            }

            if (found.Tokenizer.Length > 0)
            {
                session.WriteLine($"Tokenizer {found.Tokenizer}, {Number(found.VocabularySize)} ids");
            }

            Listing.Write(session, "", ["split", "documents", "tokens", "bytes"], found.Splits.Select(s => new[] { s.Split, Number(s.DocumentCount), Number(s.TokenCount), Number(s.ByteCount) }));
            if (found.Spec is { } spec)
            {
                session.WriteLine();
                session.Environment.Out.Write(YamlMessageWriter.Write(spec));
            }

            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static Command Card(GlobalOptions globals)
    {
        var dataset = new Argument<string>("DATASET") { Description = "Id of the dataset, or its name (datasets/ID)." };
        var command = new Command("card", "Shows a dataset's data card: sizes, languages, duplicates, personal data, what cleaning removed.") { dataset };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var request = new GetDataCardRequest { Name = Session.NameOf("datasets", arguments.GetRequiredValue(dataset)) };
            var card = await session.Datasets.GetDataCardAsync(request, cancellationToken: cancellationToken);
            session.Environment.Out.Write(session.Json ? card.Json : TerminalText.Safe(card.Markdown));
            return ExitCodes.Succeeded;
        });
        return command;
    }

    public static string StateOf(Dataset dataset) => dataset.State == Dataset.Types.State.TokenizerTraining ? "TOKENIZER_TRAINING" : dataset.State.ToString().ToUpperInvariant();

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
