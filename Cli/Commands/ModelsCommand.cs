using System.CommandLine;
using System.Globalization;
using LlmPipeline.Cli.Following;
using LlmPipeline.Inference.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe models</c>.</summary>
internal static class ModelsCommand
{
    public static Command Create(GlobalOptions globals)
    {
        var list = new Command("list", "Lists published models, newest first.");
        globals.SetAction(list, async (_, session, cancellationToken) =>
        {
            var models = await Session.ListAsync(
                async token => await session.Inference.ListModelsAsync(new ListModelsRequest { PageToken = token }, cancellationToken: cancellationToken),
                r => r.Models,
                r => r.NextPageToken);
            if (session.Json)
            {
                session.WriteJson(models);
                return ExitCodes.Succeeded;
            }

            Listing.Write(session, "No models yet. A run that succeeds publishes one.", ["model", "newest version", "run", "parameters", "context", "loss", "published"], models.Select(m => new[]
            {
                m.Name,
                m.LatestVersion,
                m.Run,
                m.ParameterCount.ToString("N0", CultureInfo.InvariantCulture),
                m.Context.ToString("N0", CultureInfo.InvariantCulture),
                m.HasLoss ? m.Loss.ToString("F4", CultureInfo.InvariantCulture) : "",
                RunText.Moment(m.CreateTime),
            }));
            return ExitCodes.Succeeded;
        });
        return new CommandWithExamples(
            "models", "Lists published models, and imports those of other software.",
            "llmpipe models list", "llmpipe models list --json", "llmpipe models import ./gpt2 --id gpt2-small") { list, Import(globals) };
    }

    private static CommandWithExamples Import(GlobalOptions globals)
    {
        var path = new Argument<string>("PATH") { Description = "A folder in the Hugging Face layout (gpt2, llama), or a llama2.c checkpoint; on the machine that runs the Gateway." };
        var id = new Option<string>("--id") { Description = "Id to publish it under: 4 to 63 of a-z, 0-9 and '-'.", Required = true };
        var tokenizer = new Option<string>("--tokenizer") { Description = "Its tokenizer, where that does not lie with it: a tokenizer file, or a folder with one.", HelpName = "PATH" };
        var command = new CommandWithExamples(
            "import", "Publishes a model of other software.",
            "llmpipe models import ./gpt2 --id gpt2-small",
            "llmpipe models import stories260K.bin --id stories-260k --tokenizer tok512.bin")
        { path, id, tokenizer };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var directory = session.Environment.Directory;
            var request = new ImportModelRequest
            {
                Path = Path.GetFullPath(Path.Combine(directory, arguments.GetRequiredValue(path))),
                ModelId = arguments.GetRequiredValue(id),
                Tokenizer = arguments.GetValue(tokenizer) is { } file ? Path.GetFullPath(Path.Combine(directory, file)) : "",
            };
            var model = (await session.Inference.ImportModelAsync(request, cancellationToken: cancellationToken)).Model;
            if (session.Json)
            {
                session.WriteJson(model);
                return ExitCodes.Succeeded;
            }

            session.WriteLine($"{model.LatestVersion}: {model.ParameterCount.ToString("N0", CultureInfo.InvariantCulture)} parameters, context {model.Context.ToString("N0", CultureInfo.InvariantCulture)}");
            return ExitCodes.Succeeded;
        });
        return command;
    }
}
