using LlmPipeline.Storage;
using LlmPipeline.Text.Shards;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>The stages of one dataset.</summary>
internal sealed class DatasetBuild(IBlobStore store, JobFolder folder, DatasetBuilderOptions options, BuildProgress progress, Func<BuildStage, Task> onStage)
{
    private const string StageFile = "stage.json";

    private readonly DatasetRecipe _recipe = folder.Job.Recipe;
    private readonly List<ReadResult?> _read = [];
    private readonly List<EncodeResult?> _encoded = [];

    /// <summary>Takes the job to its end.</summary>
    public async Task<DatasetProperties> RunAsync(HeldLease? lease, CancellationToken cancellationToken)
    {
        progress.Begin(BuildStage.Reading, 0, 1, 1);
        await onStage(BuildStage.Reading);
        var plan = await StepAsync("plan", () => UnitPlanning.PlanAsync(folder, options.Sources, options.UnitBytes, cancellationToken));
        progress.Plan(plan.Sizes);
        _read.AddRange(new ReadResult?[plan.Count]);
        _encoded.AddRange(new EncodeResult?[plan.Count]);
        var selection = await ReadAndSelectAsync(plan, cancellationToken);

        progress.Begin(BuildStage.TrainingTokenizer, 0, 1, 1);
        await onStage(BuildStage.TrainingTokenizer);
        var tokenizerName = await TokenizerTraining.TryFindAsync(folder, cancellationToken) ?? await TrainAsync(plan, selection, cancellationToken);
        var tokenizer = await StoredTokenizers.ReadAsync(store, tokenizerName, cancellationToken);

        progress.Begin(BuildStage.Tokenizing, 0, 0.85, selection.Bytes);
        await onStage(BuildStage.Tokenizing);
        await EncodeAsync(selection, tokenizer, helpOnly: false, cancellationToken);
        progress.Begin(BuildStage.Tokenizing, 0.85, 1, _encoded.Sum(e => e?.Splits.Sum(s => s.Tokens) ?? 0));
        return await StepAsync("assemble", () => new Assembly(store, folder, plan, selection, tokenizer, tokenizerName, options, progress, lease)
            .WriteAsync([.. _read.OfType<ReadResult>()], [.. _encoded.OfType<EncodeResult>()], cancellationToken));
    }

    /// <summary>Works on free pieces of the open stage; false when there was none.</summary>
    public async Task<bool> HelpAsync(CancellationToken cancellationToken)
    {
        if (await folder.TryReadAsync(StageFile, BuildJson.Default.OpenStage, cancellationToken) is not { } stage)
        {
            return false;
        }

        var before = progress.Pieces;
        switch (stage.Stage)
        {
            case "read":
                await ReadAsync(stage.Count, helpOnly: true, cancellationToken);
                break;
            case "count":
                await CountAsync(await SelectionAsync(), helpOnly: true, cancellationToken);
                break;
            default:
                var name = await TokenizerTraining.TryFindAsync(folder, cancellationToken) ?? throw new BlobNotFoundException("tokenizer.json");
                await EncodeAsync(await SelectionAsync(), await StoredTokenizers.ReadAsync(store, name, cancellationToken), helpOnly: true, cancellationToken);
                break;
        }

        return progress.Pieces > before;

        async Task<Selection> SelectionAsync() => await folder.ReadAsync(SelectionStage.File, BuildJson.Default.Selection, cancellationToken);
    }

    // With a limit, more is read only when what was read does not reach it.
    private async Task<Selection> ReadAndSelectAsync(UnitPlan plan, CancellationToken cancellationToken)
    {
        for (var limit = _recipe.MaxBytes == 0 ? long.MaxValue : _recipe.MaxBytes; ; limit *= 2)
        {
            var units = 1 + plan.EndBytes.TakeWhile((end, i) => end < limit && i < plan.Count - 1).Count();
            progress.Begin(BuildStage.Reading, 0, 0.95, plan.EndBytes[units - 1]);
            await ReadAsync(units, helpOnly: false, cancellationToken);
            progress.Begin(BuildStage.Reading, 0.95, 1, 1);
            var selection = await StepAsync("select", () => new SelectionStage(folder, plan, options.ScratchFolder).SelectAsync(units, cancellationToken));
            if (selection.UnitCount == plan.Count || (_recipe.MaxBytes > 0 && selection.Bytes + 4 > _recipe.MaxBytes))
            {
                progress.SetDuplicates(selection.Duplicates);
                RequireText(plan, selection);
                return selection;
            }
        }
    }

    private void RequireText(UnitPlan plan, Selection selection)
    {
        if (selection.Documents == 0)
        {
            throw new TextSourceException(TextSourceProblem.Empty,
                $"The sources hold no text: {plan.FileCount} files were read, the first is '{plan.FirstFile}'. Give files with text in them, or filter less.");
        }

        new SplitPlan(_recipe).RequireText(selection);
    }

    private async Task ReadAsync(int units, bool helpOnly, CancellationToken cancellationToken)
    {
        var reading = new UnitReading(folder, options.Sources, progress);
        await RunAsync(
            new PieceStage<ReadResult>(folder, "read", units, BuildJson.Default.ReadResult) { Done = Done },
            new OpenStage("read", units),
            (piece, ct) => reading.ReadAsync(piece.Index, piece.Degree, ct),
            helpOnly,
            cancellationToken);

        Task Done(int unit, ReadResult result, bool mine)
        {
            progress.AddPiece(mine);
            if (!helpOnly && _read[unit] is null)
            {
                _read[unit] = result;
                if (!mine)
                {
                    progress.AddReadElsewhere(result.Documents, result.SourceBytes);
                }
            }

            return Task.CompletedTask;
        }
    }

    private async Task<string> TrainAsync(UnitPlan plan, Selection selection, CancellationToken cancellationToken)
    {
        progress.Begin(BuildStage.TrainingTokenizer, 0, 0.4, selection.UnitCount);
        await CountAsync(selection, helpOnly: false, cancellationToken);
        progress.Begin(BuildStage.TrainingTokenizer, 0.4, 1, 1);
        return await StepAsync("tokenizer train", () => TokenizerTraining.TrainAsync(store, folder, plan, selection, progress, cancellationToken));
    }

    private async Task CountAsync(Selection selection, bool helpOnly, CancellationToken cancellationToken)
    {
        var counting = new WordCounting(folder, selection);
        await RunAsync(
            new PieceStage<CountResult>(folder, "count", selection.UnitCount, BuildJson.Default.CountResult) { Done = Done },
            new OpenStage("count", selection.UnitCount),
            (piece, ct) => counting.CountAsync(piece.Index, piece.Degree, ct),
            helpOnly,
            cancellationToken);

        Task Done(int unit, CountResult result, bool mine)
        {
            progress.AddPiece(mine);
            progress.AddStep(helpOnly ? 0 : 1);
            return Task.CompletedTask;
        }
    }

    private async Task EncodeAsync(Selection selection, ITokenizer tokenizer, bool helpOnly, CancellationToken cancellationToken)
    {
        var encoding = new UnitEncoding(folder, selection, tokenizer, progress);
        await RunAsync(
            new PieceStage<EncodeResult>(folder, "encode", selection.UnitCount, BuildJson.Default.EncodeResult) { Done = DoneAsync },
            new OpenStage("encode", selection.UnitCount),
            (piece, ct) => encoding.EncodeAsync(piece.Index, piece.Degree, ct),
            helpOnly,
            cancellationToken);

        async Task DoneAsync(int unit, EncodeResult result, bool mine)
        {
            progress.AddPiece(mine);
            if (helpOnly)
            {
                return;
            }

            _encoded[unit] = result;
            if (!mine)
            {
                progress.AddEncodedElsewhere(result.Splits.Sum(s => s.Bytes), result.Splits.Sum(s => s.Tokens));
            }

            // Nobody needs its text any more.
            await folder.DeleteAsync(DocumentFiles.TextOf(unit), cancellationToken);
        }
    }

    // Others are told of the stage only while it is open.
    private async Task RunAsync<T>(PieceStage<T> stage, OpenStage open, Func<Piece, CancellationToken, Task<T>> work, bool helpOnly, CancellationToken cancellationToken)
        where T : class
    {
        if (!helpOnly)
        {
            await folder.WriteAsync(StageFile, open, BuildJson.Default.OpenStage, cancellationToken);
        }

        using var activity = BuildTrace.StartStep(folder.Job, open.Stage);
        await stage.RunAsync(options.Degree, work, helpOnly, cancellationToken);
        if (!helpOnly)
        {
            await folder.DeleteAsync(StageFile, cancellationToken);
        }
    }

    private async Task<T> StepAsync<T>(string step, Func<Task<T>> work)
    {
        using var activity = BuildTrace.StartStep(folder.Job, step);
        try
        {
            return await work();
        }
        catch (Exception exception)
        {
            activity?.SetStatus(System.Diagnostics.ActivityStatusCode.Error, exception.Message);
            throw;
        }
    }
}
