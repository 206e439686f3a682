using System.CommandLine;
using Grpc.Core;
using LlmPipeline.Cli.RunFiles;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Inference.V1;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe quickstart</c>.</summary>
internal static class QuickstartCommand
{
    private const string ModelId = "quickstart";

    public static Command Create(GlobalOptions globals)
    {
        var seconds = new Option<int>("--seconds") { Description = "Most seconds of training.", DefaultValueFactory = _ => 150 };
        seconds.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && (!int.TryParse(token.Value, out var value) || value <= 0))
            {
                result.AddError($"--seconds {token.Value}: expected a whole number above 0.");
            }
        });
        var text = new Option<string>("--text") { Description = "A file, folder or glob of .txt, .md or .jsonl (also .gz). Default: the documentation that ships with the .NET SDK.", HelpName = "FOLDER" };
        var workers = new Option<int>("--workers") { Description = "Workers to wait for before the training starts.", DefaultValueFactory = _ => 1 };
        var command = new CommandWithExamples(
            "quickstart",
            "Trains a small Transformer, measures it, publishes it, and says what to try next.",
            "llmpipe quickstart",
            "llmpipe quickstart --text ~/books --seconds 600")
        { seconds, text, workers };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var source = arguments.GetValue(text) is { } given ? RunFile.Resolve(given, session.Environment.Directory) : "dotnet-docs:";
            await WaitForServicesAsync(session, cancellationToken);
            var run = await TrainCommand.StartAsync(session, Spec(source, arguments.GetValue(seconds), arguments.GetValue(workers)), "", cancellationToken);
            if (!session.Json)
            {
                session.WriteLine($"{run.Name}: a small Transformer learns from {(source == "dotnet-docs:" ? "the documentation of the .NET SDK" : source)}, for {arguments.GetValue(seconds)} s at most.");
            }

            var code = await TrainCommand.FollowAsync(session, run.Name, cancellationToken);
            if (code == ExitCodes.Succeeded && !session.Json)
            {
                WriteNextSteps(session, source == "dotnet-docs:" ? "Gets or sets the" : "The");
            }

            return code;
        });
        return command;
    }

    /// <summary>The quick start's run; <c>samples/dotnet-docs.yaml</c> is the same as a file.</summary>
    public static RunSpec Spec(string source, int seconds, int workers) => new()
    {
        Dataset = new DatasetSpec
        {
            Sources = { source },
            Tokenizer = new TokenizerSpec { Kind = "bpe", VocabularySize = 4096 },
            Split = new SplitSpec { ValidationFraction = 0.05 },
        },
        Model = new ModelSpec { Preset = "gpt-nano", Context = 128 },
        Optimizer = new OptimizerSpec { LearningRate = 4e-3, WarmupSteps = 50 },
        Training = new TrainingSpec
        {
            Steps = 2000,
            BatchSize = 16,
            MicroBatchSize = 4,
            MaxSeconds = seconds,
            ValidationInterval = 100,
            ValidationSequences = 100,
            CheckpointInterval = 200,
            StartWorkers = workers,
        },
        Evaluation = new EvaluationSpec { BleuSamples = 32, BleuTokens = 32, NgramOrder = 3 },
        Publish = new PublishSpec { ModelId = ModelId },
    };

    private static async Task WaitForServicesAsync(Session session, CancellationToken cancellationToken)
    {
        var start = Environment.TickCount64;
        for (var told = false; ;)
        {
            try
            {
                var deadline = DateTime.UtcNow.AddSeconds(5);
                await session.Inference.ListModelsAsync(new ListModelsRequest { PageSize = 1 }, deadline: deadline, cancellationToken: cancellationToken);
                await session.Runs.ListRunsAsync(new ListRunsRequest { PageSize = 1 }, deadline: deadline, cancellationToken: cancellationToken);
                return;
            }
            catch (RpcException exception) when (
                exception.StatusCode is StatusCode.Unavailable or StatusCode.DeadlineExceeded or StatusCode.Internal
                && !cancellationToken.IsCancellationRequested
                && Environment.TickCount64 - start < session.Environment.Patience.TotalMilliseconds)
            {
                if (!told && !session.Json)
                {
                    session.WriteLine("Waiting for the services to start.");
                    told = true;
                }

                await Task.Delay(500, cancellationToken);
            }
        }
    }

    private static void WriteNextSteps(Session session, string prompt)
    {
        var rest = session.Environment.Variable("LLMPIPE_REST") is { Length: > 0 } url ? url.TrimEnd('/') : "http://localhost:5080";
        session.WriteLine();
        session.WriteLine("Try next:");
        session.WriteLine($"  curl {rest}/v1/completions -H 'Content-Type: application/json' -d '{{\"model\": \"{ModelId}\", \"prompt\": \"{prompt}\", \"max_tokens\": 40}}'");
        session.WriteLine($"  open {rest}/ in a browser: the runs with their loss curves, and a playground");
        session.WriteLine($"  dotnet run --project Cli -- generate {ModelId} \"{prompt}\" --max-tokens 40");
    }
}
