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
        return new CommandWithExamples("models", "Lists published models.", "llmpipe models list", "llmpipe models list --json") { list };
    }
}
