using System.CommandLine;
using System.Globalization;
using LlmPipeline.Cli.Following;
using LlmPipeline.Evaluations.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe evaluate</c>.</summary>
internal static class EvaluateCommand
{
    public static Command Create(GlobalOptions globals)
    {
        var model = new Argument<string>("MODEL") { Description = "Id or name of a published model, or name of a checkpoint." };
        var dataset = new Argument<string>("DATASET") { Description = "Id or name of the dataset." };
        var split = new Option<string>("--split") { Description = "validation, test or train.", DefaultValueFactory = _ => "validation" };
        split.AcceptOnlyFromAmong("validation", "test", "train");
        var samples = new Option<int>("--bleu-samples") { Description = "Held-out texts continued for BLEU; 0 leaves BLEU out.", DefaultValueFactory = _ => 64 };
        var tokens = new Option<int>("--bleu-tokens") { Description = "Tokens of prompt, and of continuation.", DefaultValueFactory = _ => 32 };
        var order = new Option<int>("--ngram-order") { Description = "Order of the Kneser-Ney n-gram beside it; 0 leaves it out.", DefaultValueFactory = _ => 3 };
        var shots = new Option<int?>("--few-shot") { Description = "Classify the documents of a dataset with labels by prompts, with as many examples before each; 0 for none." };
        var template = new Option<string>("--template") { Description = "How an example of --few-shot is written, with {text} and {label}.", DefaultValueFactory = _ => "" };
        var documents = new Option<int>("--documents") { Description = "Documents that --few-shot classifies; 0 takes all.", DefaultValueFactory = _ => 0 };
        var command = new CommandWithExamples(
            "evaluate",
            "Measures a model or a checkpoint on a dataset.",
            "llmpipe evaluate my-model datasets/DATASET",
            "llmpipe evaluate runs/my-run/checkpoints/00000500 DATASET --split test --bleu-samples 0",
            "llmpipe evaluate my-model REVIEWS --few-shot 4 --documents 200")
        { model, dataset, split, samples, tokens, order, shots, template, documents };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var request = new CreateEvaluationRequest
            {
                Spec = new EvaluationRequestSpec
                {
                    Model = Session.NameOf("models", arguments.GetRequiredValue(model)),
                    Dataset = Session.NameOf("datasets", arguments.GetRequiredValue(dataset)),
                    Split = arguments.GetRequiredValue(split),
                    BleuSamples = arguments.GetValue(samples),
                    BleuTokens = arguments.GetValue(tokens),
                    NgramOrder = arguments.GetValue(order),
                    FewShot = arguments.GetValue(shots) is { } examples
                        ? new FewShotSpec { Shots = examples, Template = arguments.GetRequiredValue(template), Documents = arguments.GetValue(documents) } : null,
                },
            };
            var created = (await session.Evaluations.CreateEvaluationAsync(request, cancellationToken: cancellationToken)).Evaluation;
            return await FollowAsync(session, created, cancellationToken);
        });
        return command;
    }

    private static async Task<int> FollowAsync(Session session, Evaluation evaluation, CancellationToken cancellationToken)
    {
        var shownAt = 0L;
        var changes = Watch.ReadAsync(
            (after, token) => session.Evaluations.WatchEvaluation(new WatchEvaluationRequest { Name = evaluation.Name, AfterSequence = after }, cancellationToken: token),
            r => r.Sequence,
            r => IsOver(r.Evaluation),
            session.Environment.Patience,
            () => session.Environment.Error.WriteLine("the connection is lost; looking for the server"),
            cancellationToken);
        await foreach (var change in changes)
        {
            evaluation = change.Evaluation;
            if (!session.Json && !IsOver(evaluation) && Environment.TickCount64 - shownAt >= session.Environment.ProgressInterval.TotalMilliseconds)
            {
                shownAt = Environment.TickCount64;
                session.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{evaluation.Name}  {evaluation.State.ToString().ToUpperInvariant()}  {Math.Floor(evaluation.Fraction * 100):F0}%"));
            }
        }

        if (session.Json)
        {
            session.WriteJson(evaluation);
        }
        else if (evaluation.Error is { } error)
        {
            session.Environment.Error.WriteLine(TerminalText.Safe($"error: {evaluation.Name} failed: {error.Message} ({error.Reason})"));
        }
        else
        {
            ResultTable.Write(session, evaluation.Result);
            session.WriteLine(evaluation.Name);
        }

        return evaluation.State == Evaluation.Types.State.Succeeded ? ExitCodes.Succeeded : ExitCodes.Failed;
    }

    private static bool IsOver(Evaluation evaluation) => evaluation.State is Evaluation.Types.State.Succeeded or Evaluation.Types.State.Failed;
}
