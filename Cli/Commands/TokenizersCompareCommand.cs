using System.CommandLine;
using LlmPipeline.Cli.Following;
using LlmPipeline.Cli.RunFiles;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Inference.V1;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe tokenizers compare</c>: the same run with several kinds of tokenizer.</summary>
internal static class TokenizersCompareCommand
{
    /// <summary>Length of a sample in bytes of text, whatever a token is.</summary>
    private const double SampleBytes = 200;

    public static Command Create(GlobalOptions globals)
    {
        var file = new Argument<string>("FILE") { Description = "The run file (YAML); its tokenizer's kind is replaced." };
        var kinds = new Option<string>("--kinds") { Description = "Kinds of tokenizer, with commas between them.", DefaultValueFactory = _ => "word,bpe,character" };
        var set = new Option<string[]>("--set") { Description = "Sets a key over the file, as in 'llmpipe train'. May be repeated.", HelpName = "KEY=VALUE" };
        var id = new Option<string>("--run-id") { Description = "Ids of the runs and models are this, '-' and the kind.", HelpName = "ID" };
        var prompt = new Option<string>("--prompt") { Description = "What the samples go on from.", DefaultValueFactory = _ => "The" };
        var output = new Option<string>("--output", "-o") { Description = "Writes the comparison here instead: Markdown, or JSON where the name ends in .json.", HelpName = "FILE" };
        var command = new CommandWithExamples(
            "compare",
            "Trains the same model on several kinds of tokens, and compares bits per byte, unknown text and samples.",
            "llmpipe tokenizers compare samples/own-text.yaml --set dataset.sources=books/",
            "llmpipe tokenizers compare run.yaml --kinds word,wordpiece,bpe --set training.steps=500 --output comparison.md")
        { file, kinds, set, id, prompt, output };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var spec = RunFile.Load(arguments.GetRequiredValue(file), arguments.GetValue(set) ?? [], session.Environment.Directory);
            if (spec.Dataset is null || spec.HasDatasetName)
            {
                throw new RunFileException($"{arguments.GetRequiredValue(file)}: the comparison makes a dataset for each kind. Set dataset.sources, and no dataset_name.");
            }

            string[] wanted = [.. arguments.GetRequiredValue(kinds).Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Distinct(StringComparer.Ordinal)];
            if (wanted.Length == 0)
            {
                throw new RunFileException("--kinds names no kind; give for example word,bpe,character.");
            }

            var runs = new List<(string Kind, Run Run)>();
            foreach (var kind in wanted)
            {
                var runId = arguments.GetValue(id) is { } prefix ? $"{prefix}-{kind}" : "";
                var run = await TrainCommand.StartAsync(session, SpecOf(spec, kind, runId), runId, cancellationToken);
                runs.Add((kind, run));
                Say(session, $"{run.Name} trains on {kind} tokens");
            }

            var comparison = new TokenizerComparison { Prompt = arguments.GetRequiredValue(prompt) };
            foreach (var (kind, run) in runs)
            {
                comparison.Entries.Add(await FinishAsync(session, kind, run.Name, comparison.Prompt, cancellationToken));
            }

            ReportOutput.Write(session, arguments.GetValue(output), comparison.ToMarkdown(), comparison.ToJson());
            return comparison.Entries.TrueForAll(e => e.Run.State == Run.Types.State.Succeeded) ? ExitCodes.Succeeded : ExitCodes.Failed;
        });
        return command;
    }

    /// <summary>The run of a kind: the same spec but for the tokenizer.</summary>
    internal static RunSpec SpecOf(RunSpec spec, string kind, string runId)
    {
        var copy = spec.Clone();
        var tokenizer = copy.Dataset.Tokenizer ??= new TokenizerSpec();
        tokenizer.Kind = kind;
        tokenizer.ClearName();
        tokenizer.ClearFile();
        if (kind is "character" or "grapheme")
        {
            tokenizer.ClearVocabularySize();
        }

        if (kind is not ("word" or "grapheme"))
        {
            tokenizer.ClearMinFrequency();
        }

        if (kind != "bpe")
        {
            tokenizer.ClearPattern();
        }

        if (copy.Publish is { HasModelId: true })
        {
            copy.Publish.ModelId = runId.Length > 0 ? runId : $"{copy.Publish.ModelId}-{kind}";
        }

        return copy;
    }

    private static async Task<ComparedTokenizer> FinishAsync(Session session, string kind, string name, string prompt, CancellationToken cancellationToken)
    {
        var run = await WaitAsync(session, name, cancellationToken);
        Say(session, RunText.Outcome(run));
        if (run.State != Run.Types.State.Succeeded)
        {
            return new ComparedTokenizer(kind, run, null, null, "");
        }

        var dataset = (await session.Datasets.GetDatasetAsync(new GetDatasetRequest { Name = run.Dataset }, cancellationToken: cancellationToken)).Dataset;
        var split = dataset.Splits.FirstOrDefault(s => s.Split == run.Evaluation?.Split);
        var bytesPerToken = split is { TokenCount: > 0 } ? (double)split.ByteCount / split.TokenCount : 1;
        var request = new GenerateRequest { Model = run.ModelVersion, Prompt = prompt, MaxTokens = (int)Math.Clamp(SampleBytes / bytesPerToken, 16, 400), Temperature = 0.8, Seed = 1 };
        using var call = session.Inference.Generate(request, cancellationToken: cancellationToken);
        var text = "";
        while (await call.ResponseStream.MoveNext(cancellationToken))
        {
            text += call.ResponseStream.Current.Text;
        }

        return new ComparedTokenizer(kind, run, dataset, split, text);
    }

    private static async Task<Run> WaitAsync(Session session, string name, CancellationToken cancellationToken)
    {
        Run? last = null;
        var changes = Watch.ReadAsync(
            (after, token) => session.Runs.WatchRun(new WatchRunRequest { Name = name, AfterSequence = after }, cancellationToken: token),
            r => r.Sequence,
            r => RunFollower.IsOver(r.Run),
            session.Environment.Patience,
            () => session.Environment.Error.WriteLine("the connection is lost; looking for the server"),
            cancellationToken);
        await foreach (var change in changes)
        {
            if (last?.State != change.Run.State && !RunFollower.IsOver(change.Run))
            {
                Say(session, $"{name}  {RunText.NameOf(change.Run.State)}");
            }

            last = change.Run;
        }

        return last!;
    }

    // Progress goes beside the report, which may be redirected.
    private static void Say(Session session, string text)
    {
        if (!session.Json)
        {
            session.Environment.Error.WriteLine(TerminalText.Safe(text));
        }
    }
}
