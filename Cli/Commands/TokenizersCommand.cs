using System.CommandLine;
using System.Globalization;
using LlmPipeline.Cli.RunFiles;
using LlmPipeline.Datasets.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe tokenizers</c>.</summary>
internal static class TokenizersCommand
{
    public static Command Create(GlobalOptions globals) => new CommandWithExamples(
        "tokenizers",
        "Lists, shows, measures and compares tokenizers.",
        "llmpipe tokenizers list",
        "llmpipe tokenizers report tokenizers/bpe-4096-0f2c1a2b3c4d eng=udhr/eng.txt deu=udhr/deu.txt --baseline eng",
        "llmpipe tokenizers compare samples/own-text.yaml --kinds word,bpe,character --output comparison.md")
    {
        List(globals), Show(globals), Report(globals), TokenizersCompareCommand.Create(globals),
    };

    private static CommandWithExamples List(GlobalOptions globals)
    {
        var command = new CommandWithExamples("list", "Lists tokenizers.", "llmpipe tokenizers list", "llmpipe tokenizers list --json");
        globals.SetAction(command, async (_, session, cancellationToken) =>
        {
            var tokenizers = await Session.ListAsync(
                async token => await session.Tokenizers.ListTokenizersAsync(new ListTokenizersRequest { PageToken = token }, cancellationToken: cancellationToken),
                r => r.Tokenizers,
                r => r.NextPageToken);
            if (session.Json)
            {
                session.WriteJson(tokenizers);
                return ExitCodes.Succeeded;
            }

            Listing.Write(session, "No tokenizers yet. A dataset makes one, or imports the one of its tokenizer.file.", ["tokenizer", "kind", "ids"],
                tokenizers.Select(t => new[] { t.Name, t.Kind, Number(t.VocabularySize) }));
            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static CommandWithExamples Show(GlobalOptions globals)
    {
        var tokenizer = new Argument<string>("TOKENIZER") { Description = "Id of the tokenizer, or its name (tokenizers/ID)." };
        var text = new Option<string>("--text") { Description = "Also shows how this text is cut into tokens." };
        var command = new CommandWithExamples(
            "show", "Shows a tokenizer.", "llmpipe tokenizers show bpe-4096-0f2c1a2b3c4d", "llmpipe tokenizers show word-8000-0f2c1a2b3c4d --text \"Once upon a time\"")
        { tokenizer, text };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var request = new GetTokenizerRequest { Name = Session.NameOf("tokenizers", arguments.GetRequiredValue(tokenizer)) };
            var found = (await session.Tokenizers.GetTokenizerAsync(request, cancellationToken: cancellationToken)).Tokenizer;
            if (session.Json)
            {
                session.WriteJson(found);
                return ExitCodes.Succeeded;
            }

            session.WriteLine($"{found.Name}: {found.Kind}, {Number(found.VocabularySize)} ids");
            session.WriteLine($"SHA-256 {found.Hash}");
            Listing.Write(session, "", ["special token", "id"], found.SpecialIds.OrderBy(s => s.Value).Select(s => new[] { s.Key, Number(s.Value) }));
            if (arguments.GetValue(text) is { } sample)
            {
                await ShowTokensAsync(session, found.Name, sample, cancellationToken);
            }

            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static async Task ShowTokensAsync(Session session, string tokenizer, string text, CancellationToken cancellationToken)
    {
        var ids = (await session.Tokenizers.EncodeAsync(new EncodeRequest { Tokenizer = tokenizer, Text = text }, cancellationToken: cancellationToken)).Ids;
        var rows = new List<string[]>();
        foreach (var id in ids)
        {
            var token = (await session.Tokenizers.DecodeAsync(new DecodeRequest { Tokenizer = tokenizer, Ids = { id } }, cancellationToken: cancellationToken)).Text;
            rows.Add([Number(id), $"\"{token.Replace("\n", "\\n", StringComparison.Ordinal)}\""]);
        }

        session.WriteLine();
        Listing.Write(session, "The text has no tokens.", ["id", "token"], rows);
    }

    private static CommandWithExamples Report(GlobalOptions globals)
    {
        var tokenizer = new Argument<string>("TOKENIZER") { Description = "Id or name of the tokenizer, or the path of a tokenizer file on the server." };
        var sources = new Argument<string[]>("SOURCES") { Description = "What to measure: sources as in a run file, each as SOURCE or LABEL=SOURCE.", Arity = ArgumentArity.OneOrMore };
        var reference = new Option<string>("--reference") { Description = "A tokenizer to stand beside it, for example the folder with GPT-2's files.", HelpName = "TOKENIZER" };
        var baseline = new Option<string>("--baseline") { Description = "The label whose tokens count as 1, where texts are translations of each other.", HelpName = "LABEL" };
        var maxBytes = new Option<long>("--max-bytes") { Description = "Bytes read for each label. Default 16 MiB." };
        var output = new Option<string>("--output", "-o") { Description = "Writes the report here instead: Markdown, or JSON where the name ends in .json.", HelpName = "FILE" };
        var command = new CommandWithExamples(
            "report",
            "Measures a tokenizer: tokens a word, bytes a token, unknown rate, text by text.",
            "llmpipe tokenizers report bpe-4096-0f2c1a2b3c4d books/",
            "llmpipe tokenizers report bpe-32000-0f2c1a2b3c4d eng=udhr/eng.txt deu=udhr/deu.txt --baseline eng --reference gpt2/ --output report.md")
        { tokenizer, sources, reference, baseline, maxBytes, output };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var directory = session.Environment.Directory;
            var request = new GetTokenizerReportRequest
            {
                Tokenizer = NameOrFile(arguments.GetRequiredValue(tokenizer), directory),
                Reference = arguments.GetValue(reference) is { } other ? NameOrFile(other, directory) : "",
                Baseline = arguments.GetValue(baseline) ?? "",
                MaxBytes = arguments.GetValue(maxBytes),
            };
            foreach (var source in arguments.GetRequiredValue(sources))
            {
                var at = source.IndexOf('=', StringComparison.Ordinal);
                request.Texts.Add(new LabelledText { Label = at > 0 ? source[..at] : source, Sources = { RunFile.Resolve(source[(at + 1)..], directory) } });
            }

            var report = await session.Tokenizers.GetTokenizerReportAsync(request, cancellationToken: cancellationToken);
            ReportOutput.Write(session, arguments.GetValue(output), report.Markdown, report.Json);
            return ExitCodes.Succeeded;
        });
        return command;
    }

    // What lies here is a file; anything else is a name, or a path of the server.
    private static string NameOrFile(string text, string directory) =>
        Path.GetFullPath(Path.Combine(directory, text)) is var path && (File.Exists(path) || Directory.Exists(path)) ? path : Session.NameOf("tokenizers", text);

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
