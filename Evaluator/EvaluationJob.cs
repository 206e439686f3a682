using System.Diagnostics;
using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Evaluator.Measuring;
using LlmPipeline.Models;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Evaluator;

/// <summary>Does one evaluation: the model, then the n-gram baseline on the same tokens.</summary>
internal sealed partial class EvaluationJob(
    IBlobStore store, EvaluationCatalog catalog, EvaluatorTelemetry telemetry, IOptions<EvaluatorOptions> options, ILogger<EvaluationJob> logger)
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(0.5);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(30);

    /// <summary>Does an evaluation and records the result, or why there is none. One that was cancelled is not begun.</summary>
    public async Task RunAsync(string id, CancellationToken cancellationToken)
    {
        var begun = await catalog.Records.UpdateAsync(id, Begin, durable: true, cancellationToken);
        if (EvaluationCatalog.IsTerminal(begun.Value))
        {
            return;
        }

        var evaluation = begun.Value;
        var start = Stopwatch.GetTimestamp();
        using var activity = telemetry.StartEvaluation(evaluation.Name, evaluation.Traceparent);
        using var over = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var watching = EndWhenCancelledAsync(id, begun.Sequence, over);
        EvaluationResult? result = null;
        EvaluationError? error = null;
        try
        {
            result = await MeasureAsync(id, evaluation, over.Token);
            activity?.SetTag("llmpipeline.loss", result.Model.Loss).SetTag("llmpipeline.perplexity", result.Model.Perplexity);
        }
        catch (Exception) when (over.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            // A caller cancelled it, and its record says so.
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
        {
            EvaluationFailed(evaluation.Name, exception);
            activity?.SetStatus(ActivityStatusCode.Error, exception.Message);
            error = Explain(exception);
        }
        finally
        {
            await over.CancelAsync();
            await watching.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        telemetry.Done(Stopwatch.GetElapsedTime(start));
        var end = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow);
        await RecordAsync(id, e =>
        {
            if (e.State != Evaluation.Types.State.Running)
            {
                return false;
            }

            e.State = error is null ? Evaluation.Types.State.Succeeded : Evaluation.Types.State.Failed;
            e.Fraction = error is null ? 1 : e.Fraction;
            e.Result = result;
            e.Error = error;
            e.EndTime = end;
            return true;
        }, cancellationToken);
    }

    // What was measured is kept until storage takes it.
    private async Task RecordAsync(string id, Func<Evaluation, bool> change, CancellationToken cancellationToken)
    {
        for (var pause = FirstPause; ; pause = pause * 2 < LongestPause ? pause * 2 : LongestPause)
        {
            try
            {
                await catalog.Records.UpdateAsync(id, change, durable: true, cancellationToken);
                return;
            }
            catch (Exception exception) when (exception is not BlobConditionException && !cancellationToken.IsCancellationRequested)
            {
                ResultUnwritten(id, pause.TotalSeconds, exception);
            }

            await Task.Delay(pause, cancellationToken);
        }
    }

    private static bool Begin(Evaluation evaluation)
    {
        if (EvaluationCatalog.IsTerminal(evaluation))
        {
            return false;
        }

        evaluation.State = Evaluation.Types.State.Running;
        return true;
    }

    // It may be queued again at once, for a later turn: what came since the begin tells.
    private async Task EndWhenCancelledAsync(string id, long begun, CancellationTokenSource over)
    {
        await foreach (var version in catalog.Records.WatchAsync(id, begun, over.Token))
        {
            if (version.Value.State == Evaluation.Types.State.Cancelled)
            {
                await over.CancelAsync();
                return;
            }
        }
    }

    private async Task<EvaluationResult> MeasureAsync(string id, Evaluation evaluation, CancellationToken cancellationToken)
    {
        var spec = evaluation.Spec;
        using var dataset = await TokenDataset.OpenAsync(store, spec.Dataset, cancellationToken);
        var folder = await store.GetVerifiedLocalDirectoryAsync(spec.Model, cancellationToken);
        var tokenizer = TokenizerFile.Parse(await File.ReadAllTextAsync(Path.Combine(folder, ModelDirectory.TokenizerFile), cancellationToken));
        if (tokenizer.Hash != dataset.Tokenizer.Hash && (dataset.Properties.Labels is null || !tokenizer.Extends(dataset.Tokenizer)))
        {
            throw new EvaluationException(ErrorReasons.TokenizerMismatch,
                $"'{spec.Model}' was trained with another tokenizer than '{dataset.TokenizerName}' of '{spec.Dataset}': its ids mean other text. Evaluate on a dataset made with the model's tokenizer (tokenizer.name in the dataset's spec).");
        }

        var split = SplitOf(dataset, spec.Split);
        var progress = new Progress(catalog, id, spec);
        var result = await Task.Factory.StartNew(
            () => Measure(spec, folder, tokenizer, dataset, split, progress, cancellationToken), cancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        result.Name = evaluation.Name;
        result.Split = spec.Split;
        return result;
    }

    private EvaluationResult Measure(EvaluationRequestSpec spec, string folder, ITokenizer tokenizer, TokenDataset dataset, TokenSplit split, Progress progress, CancellationToken cancellationToken)
    {
        var result = new EvaluationResult();
        HeldOutTexts texts;
        bool hasBaseline;
        using (var model = Load(spec, folder, tokenizer))
        {
            if (dataset.Properties.Labels is not null || model is LanguageModel { Config.Classes: > 0 })
            {
                return Classify(spec, model, tokenizer, dataset, split, progress, cancellationToken);
            }

            // Prompt and continuation have to fit what a generation can hold.
            var isMasked = model is LanguageModel { Config.Objective: Objective.Masked };
            texts = HeldOutTexts.Take(split, isMasked ? 0 : spec.BleuSamples, Math.Min(spec.BleuTokens, (model.MaxPositions ?? int.MaxValue) / 2));
            using (telemetry.StartPhase("model loss"))
            {
                var start = Stopwatch.GetTimestamp();
                result.Model = SplitLoss.Of(model, split, progress.Model, cancellationToken);
                result.TokensPerSecond = result.Model.TokenCount / Stopwatch.GetElapsedTime(start).TotalSeconds;
                telemetry.Predicted(result.Model.TokenCount);
            }

            if (texts.Count > 0)
            {
                using var phase = telemetry.StartPhase("model bleu");
                result.Model.Bleu = texts.BleuOf(model, dataset.Tokenizer, progress.ModelBleu, cancellationToken);
            }

            hasBaseline = spec.NgramOrder > 0 && !isMasked && !NgramBaseline.Is(model, dataset, spec.NgramOrder);
        }

        if (spec.OldDataset.Length > 0)
        {
            using var phase = telemetry.StartPhase("forgetting");
            result.Forgetting = Forget(spec, folder, dataset, result.Model, cancellationToken);
        }

        if (hasBaseline)
        {
            result.Ngram = NgramBaseline.Measure(dataset, split, spec.NgramOrder, texts, telemetry, progress, cancellationToken);
            result.NgramOrder = spec.NgramOrder;
        }

        return result;
    }

    private EvaluationResult Classify(EvaluationRequestSpec spec, ITokenModel model, ITokenizer tokenizer, TokenDataset dataset, TokenSplit split, Progress progress, CancellationToken cancellationToken)
    {
        using var phase = telemetry.StartPhase("classification");
        var start = Stopwatch.GetTimestamp();
        var classification = model switch
        {
            _ when dataset.Properties.Labels is null => throw new EvaluationException(ErrorReasons.InvalidSpec,
                $"'{spec.Model}' is a classifier, but the documents of '{spec.Dataset}' have no labels. Evaluate on a dataset with label_field or label_parts."),
            LanguageModel { Config.Classes: > 0 } classifier when spec.FewShot is null => classifier.Config.Labels!.SequenceEqual(dataset.Properties.Labels)
                ? Classification.Of(classifier, dataset, split, progress.Model, cancellationToken)
                : throw new EvaluationException(ErrorReasons.InvalidSpec,
                    $"'{spec.Model}' tells {string.Join(", ", classifier.Config.Labels!.Take(10))} apart, but '{spec.Dataset}' has the labels {string.Join(", ", dataset.Properties.Labels.Take(10))}. Evaluate on a dataset with the model's labels."),
            LanguageModel { Config.Classes: > 0 } => throw new EvaluationException(ErrorReasons.InvalidSpec, $"'{spec.Model}' is a classifier and takes no prompts. Leave few_shot out."),
            _ when spec.FewShot is null => throw new EvaluationException(ErrorReasons.InvalidSpec,
                $"'{spec.Model}' is a language model, but the documents of '{spec.Dataset}' have labels. Set few_shot to classify by prompts, or evaluate on a dataset without labels."),
            LanguageModel { Config.Objective: Objective.Masked } => throw new EvaluationException(ErrorReasons.InvalidSpec,
                $"'{spec.Model}' was trained to fill in masked tokens (objective: masked) and continues no prompts. Fine-tune it on documents with labels, and measure that."),
            _ => FewShot.Classify(spec.FewShot, model, tokenizer, dataset, split, progress.Model, cancellationToken),
        };
        var result = new EvaluationResult { Model = classification.Quality(), Classification = classification.Report(Classification.Majority(dataset, dataset.Split("train"))) };
        result.TokensPerSecond = result.Model.TokenCount / Stopwatch.GetElapsedTime(start).TotalSeconds;
        return result;
    }

    /// <summary>Base and model on the old and the new text.</summary>
    private Forgetting Forget(EvaluationRequestSpec spec, string folder, TokenDataset dataset, ModelQuality onNew, CancellationToken cancellationToken)
    {
        using var old = TokenDataset.OpenAsync(store, spec.OldDataset, cancellationToken).GetAwaiter().GetResult();
        if (!dataset.Tokenizer.Extends(old.Tokenizer))
        {
            throw new EvaluationException(ErrorReasons.TokenizerMismatch,
                $"'{spec.OldDataset}' was encoded with '{old.TokenizerName}', whose ids are not those of '{dataset.TokenizerName}' of '{spec.Dataset}'. Name a dataset made with the tokenizer of the base.");
        }

        if (old.Properties.Labels is not null)
        {
            throw new EvaluationException(ErrorReasons.InvalidSpec, $"The documents of '{spec.OldDataset}' have labels; what a language model forgets is measured on one without. Name another old_dataset.");
        }

        var device = TorchRuntime.ResolveDevice(options.Value.Device);
        var (oldSplit, newSplit) = (SplitOf(old, spec.Split), SplitOf(dataset, spec.Split));
        var forgetting = new Forgetting { ModelNew = onNew.Clone() };
        forgetting.ModelNew.ClearBleu();
        using (var model = ModelDirectory.LoadNetwork(folder, device))
        {
            forgetting.ModelOld = SplitLoss.OfNetwork(model, oldSplit, null, cancellationToken);
        }

        var baseFolder = store.GetVerifiedLocalDirectoryAsync(spec.Base, cancellationToken).GetAwaiter().GetResult();
        var known = ModelDirectory.ReadConfig(baseFolder);
        using var origin = BaseModel.Load(baseFolder, known with { VocabularySize = Math.Max(known.VocabularySize, dataset.Tokenizer.VocabularySize) }, seed: 1, device);
        forgetting.BaseOld = SplitLoss.OfNetwork(origin, oldSplit, null, cancellationToken);
        forgetting.BaseNew = SplitLoss.OfNetwork(origin, newSplit, null, cancellationToken);
        return forgetting;
    }

    private ITokenModel Load(EvaluationRequestSpec spec, string folder, ITokenizer tokenizer)
    {
        var model = ModelDirectory.Load(folder, TorchRuntime.ResolveDevice(options.Value.Device));
        if (model.VocabularySize == tokenizer.VocabularySize)
        {
            return model;
        }

        var size = model.VocabularySize;
        model.Dispose();
        throw new EvaluationException(ErrorReasons.TokenizerMismatch,
            $"'{spec.Model}' has {size} ids in config.json, and its tokenizer has {tokenizer.VocabularySize}. Publish or train the model with its own tokenizer.");
    }

    private static TokenSplit SplitOf(TokenDataset dataset, string split)
    {
        try
        {
            return dataset.Split(split);
        }
        catch (InvalidDataException exception)
        {
            throw new EvaluationException(ErrorReasons.InvalidSpec, exception.Message);
        }
    }

    private static EvaluationError Explain(Exception exception) => exception switch
    {
        EvaluationException e => Error(e.Reason, e.Message),
        BlobNotFoundException => Error(ErrorReasons.NotFound, exception.Message),
        CorruptDirectoryException or InvalidDataException => Error(ErrorReasons.CorruptData, exception.Message),
        _ when IsOutOfMemory(exception) => Error(ErrorReasons.OutOfMemory, "The model does not fit into the memory of the Evaluator. Evaluate on a machine with more, or set Evaluator:Device to another device."),
        _ => Error(ErrorReasons.Internal, $"The evaluation failed unexpectedly ({exception.GetType().Name}: {exception.Message.Split('\n')[0]}). The log of the Evaluator says more; create it again to retry."),
    };

    private static EvaluationError Error(string reason, string message) => new() { Reason = reason, Message = message };

    // libtorch throws a general exception.
    private static bool IsOutOfMemory(Exception exception) => exception is OutOfMemoryException
        || exception.Message.Contains("out of memory", StringComparison.OrdinalIgnoreCase)
        || exception.Message.Contains("can't allocate memory", StringComparison.OrdinalIgnoreCase);

    [LoggerMessage(3012, LogLevel.Warning, "The result of evaluations/{Id} could not be written; it is tried again after {Seconds} s")]
    private partial void ResultUnwritten(string id, double seconds, Exception exception);

    [LoggerMessage(3011, LogLevel.Error, "{Evaluation} failed")]
    private partial void EvaluationFailed(string evaluation, Exception exception);
}

/// <summary>An evaluation cannot be done; reason and message go into its record.</summary>
/// <param name="reason">One of <see cref="ErrorReasons"/>.</param>
/// <param name="message">One sentence for a person.</param>
internal sealed class EvaluationException(string reason, string message) : Exception(message)
{
    /// <summary>One of <see cref="ErrorReasons"/>.</summary>
    public string Reason { get; } = reason;
}
