using System.CommandLine;
using System.Globalization;
using Grpc.Core;
using LlmPipeline.Cli.Following;
using LlmPipeline.Cli.RunFiles;
using LlmPipeline.Evaluations.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe evaluate</c>.</summary>
internal static class EvaluateCommand
{
    // Shorter than what is left after Ctrl-C.
    private static readonly TimeSpan CancelPatience = TimeSpan.FromSeconds(2);

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
        var labels = new Option<string[]>("--label") { Description = "How --few-shot writes a label, one option for each, in the order of the dataset's labels. Their names otherwise." };
        var documents = new Option<int>("--documents") { Description = "Documents that --few-shot classifies; 0 takes all.", DefaultValueFactory = _ => 0 };
        var seed = new Option<long>("--seed") { Description = "Chooses the examples of --few-shot.", DefaultValueFactory = _ => 0 };
        var origin = new Option<string>("--base") { Description = "What MODEL was fine-tuned from, as MODEL: measured beside it, so that what was forgotten shows; with --old-dataset." };
        var old = new Option<string>("--old-dataset") { Description = "Id or name of a dataset that --base knows: both are measured on it and on DATASET." };
        var command = new CommandWithExamples(
            "evaluate",
            "Measures a model or a checkpoint on a dataset. Ctrl-C cancels what it began.",
            "llmpipe evaluate my-model datasets/DATASET",
            "llmpipe evaluate runs/my-run/checkpoints/00000500 DATASET --split test --bleu-samples 0",
            "llmpipe evaluate my-model REVIEWS --few-shot 4 --documents 200 --label bad --label good",
            "llmpipe evaluate my-tuned-model NEW-TEXT --base models/my-model --old-dataset OLD-TEXT")
        { model, dataset, split, samples, tokens, order, shots, template, labels, documents, seed, origin, old };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var fewShot = new FewShotSpec
            {
                Template = arguments.GetRequiredValue(template),
                Labels = { arguments.GetValue(labels) ?? [] },
                Documents = arguments.GetValue(documents),
                Seed = arguments.GetValue(seed),
            };
            var (examples, baseModel, oldDataset) = (arguments.GetValue(shots), arguments.GetValue(origin), arguments.GetValue(old));
            Check(examples is not null || fewShot.CalculateSize() == 0, "--template, --label, --documents and --seed say how --few-shot asks. Give --few-shot too, for example --few-shot 4, or leave them out.");
            Check((baseModel is null) == (oldDataset is null), "--base and --old-dataset go together: what of the old dataset the base knew, and the model forgot. Give both or none of them.");
            Check(examples is null || baseModel is null, "--few-shot classifies documents, and --base and --old-dataset say what a language model forgot of its text. Leave one of them out.");
            fewShot.Shots = examples ?? 0;
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
                    FewShot = examples is null ? null : fewShot,
                    Base = baseModel is null ? "" : Session.NameOf("models", baseModel),
                    OldDataset = oldDataset is null ? "" : Session.NameOf("datasets", oldDataset),
                },
            };
            var response = await session.Evaluations.CreateEvaluationAsync(request, cancellationToken: cancellationToken);
            return await FollowAsync(session, response.Evaluation, response.Queued, cancellationToken);
        });
        return command;
    }

    private static void Check(bool condition, string problem)
    {
        if (!condition)
        {
            throw new RunFileException(problem);
        }
    }

    private static async Task<int> FollowAsync(Session session, Evaluation created, bool isOurs, CancellationToken cancellationToken)
    {
        var (evaluation, shownAt) = (created, 0L);
        try
        {
            var changes = Watch.ReadAsync(
                (after, token) => session.Evaluations.WatchEvaluation(new WatchEvaluationRequest { Name = created.Name, AfterSequence = after }, cancellationToken: token),
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
        }
        catch (Exception exception) when (cancellationToken.IsCancellationRequested && exception is OperationCanceledException or RpcException)
        {
            return await LeaveAsync(session, created, isOurs);
        }

        if (session.Json)
        {
            session.WriteJson(evaluation);
        }
        else if (evaluation.State == Evaluation.Types.State.Cancelled)
        {
            session.Environment.Error.WriteLine($"{evaluation.Name} was cancelled.");
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

        return evaluation.State switch
        {
            Evaluation.Types.State.Succeeded => ExitCodes.Succeeded,
            Evaluation.Types.State.Cancelled => ExitCodes.Cancelled,
            _ => ExitCodes.Failed,
        };
    }

    // Cancels what this call began. Somebody may wait for what was found in work: a run, for example.
    private static async Task<int> LeaveAsync(Session session, Evaluation created, bool isOurs)
    {
        try
        {
            if (isOurs)
            {
                var request = new CancelEvaluationRequest { Name = created.Name };
                var found = (await session.Evaluations.CancelEvaluationAsync(request, deadline: DateTime.UtcNow + CancelPatience)).Evaluation;
                session.Environment.Error.WriteLine($"{found.Name} is {found.State.ToString().ToUpperInvariant()}.");
                return ExitCodes.Cancelled;
            }
        }
        catch (RpcException)
        {
            // It goes on.
        }

        session.Environment.Error.WriteLine($"{created.Name} goes on without being watched. Cancel it with 'llmpipe evaluations cancel {created.Name}'.");
        return ExitCodes.Cancelled;
    }

    private static bool IsOver(Evaluation evaluation) =>
        evaluation.State is Evaluation.Types.State.Succeeded or Evaluation.Types.State.Failed or Evaluation.Types.State.Cancelled;
}
