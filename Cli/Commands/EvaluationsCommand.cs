using System.CommandLine;
using LlmPipeline.Evaluations.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe evaluations</c>.</summary>
internal static class EvaluationsCommand
{
    public static Command Create(GlobalOptions globals) => new CommandWithExamples(
        "evaluations", "Cancels measurements that 'llmpipe evaluate' or a run began.", "llmpipe evaluations cancel evaluations/EVALUATION") { Cancel(globals) };

    private static Command Cancel(GlobalOptions globals)
    {
        var evaluation = new Argument<string>("EVALUATION") { Description = "Id of the evaluation, or its name (evaluations/ID)." };
        var command = new Command("cancel", "Stops a measurement.") { evaluation };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var request = new CancelEvaluationRequest { Name = Session.NameOf("evaluations", arguments.GetRequiredValue(evaluation)) };
            var found = (await session.Evaluations.CancelEvaluationAsync(request, cancellationToken: cancellationToken)).Evaluation;
            if (session.Json)
            {
                session.WriteJson(found);
            }
            else
            {
                session.WriteLine($"{found.Name} is {found.State.ToString().ToUpperInvariant()}.");
            }

            return ExitCodes.Succeeded;
        });
        return command;
    }
}
