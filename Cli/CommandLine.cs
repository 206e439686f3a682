using System.CommandLine;
using System.CommandLine.Invocation;
using LlmPipeline.Cli.Commands;

namespace LlmPipeline.Cli;

/// <summary>The whole command line.</summary>
internal static class CommandLine
{
    private const string Description = """
        Trains, watches, measures and asks language models: a client of LlmPipeline's Gateway.

        Examples:
          llmpipe quickstart                                        train a small model on the SDK's documentation
          llmpipe train samples/dotnet-docs.yaml --follow           train what a run file describes, and watch it
          llmpipe train run.yaml --set training.steps=100           the same with a change
          llmpipe runs list                                         what was trained
          llmpipe generate my-model "Once upon a time"              ask a published model

        Exit codes: 0 done, 1 failed, 2 wrong input, 3 no server, 130 cancelled.
        """;

    /// <summary>Runs the program and returns its exit code.</summary>
    public static async Task<int> RunAsync(string[] args, CliEnvironment environment, CancellationToken cancellationToken = default)
    {
        var globals = new GlobalOptions(environment);
        var root = new RootCommand(Description)
        {
            TrainCommand.Create(globals),
            RunsCommand.Create(globals),
            QuickstartCommand.Create(globals),
            DatasetsCommand.Create(globals),
            TokenizersCommand.Create(globals),
            ModelsCommand.Create(globals),
            GenerateCommand.Create(globals),
            ClassifyCommand.Create(globals),
            EvaluateCommand.Create(globals),
            EvaluationsCommand.Create(globals),
        };
        globals.AddTo(root);
        CommandWithExamples.ShowIn(root);

        var result = root.Parse(args);
        var code = await result.InvokeAsync(
            new InvocationConfiguration
            {
                Output = environment.Out,
                Error = environment.Error,
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = TimeSpan.FromSeconds(3),
            },
            cancellationToken);
        return result.Action is ParseErrorAction ? ExitCodes.BadInput : code;
    }
}
