using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Text.Shards;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary><c>fine_tune</c> of a run: what the base says is filled in, and what contradicts it is refused.</summary>
internal static class FineTuneResolver
{
    private const string UnfreezeEmbedding = "set fine_tune.frozen_embedding to false";

    private static readonly string[] Methods = ["full", "frozen", "lora"];

    // A fine-tuning may regularize, and read what it is to classify, as it likes.
    private static readonly string[] FreeKeys = ["dropout", "variational_dropout", "recurrent_dropout", "pooling"];

    /// <summary>Returns the spec with base, model and tokenizer filled in; a spec without <c>fine_tune</c> as it is.</summary>
    /// <param name="spec">As it was sent.</param>
    /// <param name="store">Where models and tokenizers lie.</param>
    /// <param name="find">The run of a name; null when there is none.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="RpcException">INVALID_ARGUMENT or NOT_FOUND; the message names key and remedy.</exception>
    public static async Task<RunSpec?> ResolveAsync(RunSpec? spec, IBlobStore store, Func<string, Run?> find, CancellationToken cancellationToken)
    {
        if (spec?.FineTune is null)
        {
            return spec;
        }

        var resolved = spec.Clone();
        var tune = resolved.FineTune;
        SpecCheck.That(!resolved.HasSize, "size", $"is set, and fine_tune too; the base has its sizes. Leave it out");
        SpecCheck.That(tune.HasBase, "fine_tune.base", $"is not set; name models/MODEL, models/MODEL/versions/VERSION or runs/RUN/checkpoints/STEP");
        tune.Base = await BaseAsync(tune.Base, store, find, cancellationToken);
        var folder = await FolderAsync(tune.Base, store, cancellationToken);
        var config = Config(tune.Base, folder);
        resolved.Model = Model(resolved.Model ?? new ModelSpec(), config, tune.Base);
        ResolveMethod(tune, config);
        await ResolveTokenizerAsync(resolved, folder, store, cancellationToken);
        if (tune.HasOldDataset)
        {
            ResourceName.IdOf(tune.OldDataset, "datasets");
            SpecCheck.That(config.Classes == 0, "fine_tune.old_dataset", $"is set, but {tune.Base} is a classifier; what a language model forgets can be measured");
            SpecCheck.That(resolved.Dataset is not ({ HasLabelField: true } or { LabelParts: true }), "fine_tune.old_dataset",
                $"is set, and the dataset has labels, so a classifier comes of it; what a language model forgets can be measured. Leave one of them out");
        }

        return resolved;
    }

    /// <summary>Throws unless a dataset's tokenizer is that of the base, or has further ids, which are trained then.</summary>
    /// <param name="tune">What is asked for.</param>
    /// <param name="dataset">What is trained on.</param>
    /// <param name="old">The dataset on which forgetting is measured; null without.</param>
    /// <param name="store">Where base and tokenizers lie.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="StageFailedException">It is another one, or the base is gone.</exception>
    public static async Task CheckTokenizersAsync(FineTuneSpec tune, Dataset dataset, Dataset? old, IBlobStore store, CancellationToken cancellationToken)
    {
        string folder;
        try
        {
            folder = await store.GetVerifiedLocalDirectoryAsync(tune.Base, cancellationToken);
        }
        catch (Exception exception) when (exception is BlobNotFoundException or CorruptDirectoryException)
        {
            throw new StageFailedException(exception is BlobNotFoundException ? ErrorReasons.NotFound : ErrorReasons.CorruptData,
                $"fine_tune.base '{tune.Base}' cannot be read any more: {exception.Message} Create a run with another base{(tune.Base.StartsWith("runs/", StringComparison.Ordinal) ? "; a run keeps its newest checkpoints and the best one" : "")}.", exception);
        }

        var known = TokenizerOf(folder);
        var tokenizer = await StoredTokenizers.ReadAsync(store, dataset.Tokenizer, cancellationToken);
        if (!tokenizer.Extends(known))
        {
            throw new StageFailedException(ErrorReasons.InvalidSpec,
                $"'{dataset.Name}' was encoded with '{dataset.Tokenizer}', whose ids are not those of {tune.Base}. Give the text in dataset instead of dataset_name, and it is encoded with the tokenizer of the base.");
        }

        if (tokenizer.VocabularySize > known.VocabularySize && tune is { Method: "frozen", FrozenEmbedding: true })
        {
            throw new StageFailedException(ErrorReasons.InvalidSpec,
                $"'{dataset.Name}' was encoded with '{dataset.Tokenizer}', which has ids that {tune.Base} does not know, and their embeddings would not be trained. Create a run with fine_tune.frozen_embedding set to false.");
        }

        if (old is not null && !tokenizer.Extends(await StoredTokenizers.ReadAsync(store, old.Tokenizer, cancellationToken)))
        {
            throw new StageFailedException(ErrorReasons.InvalidSpec,
                $"fine_tune.old_dataset '{old.Name}' was encoded with '{old.Tokenizer}', whose ids are not those of '{dataset.Tokenizer}' of '{dataset.Name}'. Create a run that names a dataset made with the tokenizer of the base.");
        }
    }

    private static async Task<string> BaseAsync(string name, IBlobStore store, Func<string, Run?> find, CancellationToken cancellationToken)
    {
        if (name.StartsWith("runs/", StringComparison.Ordinal))
        {
            if (name.Split('/').Length > 2)
            {
                var (checkpointRun, step) = ResourceName.ParseCheckpoint(name);
                return ResourceName.Checkpoint(checkpointRun, step);
            }

            ResourceName.IdOf(name, "runs");
            if (find(name) is not { } run)
            {
                RpcErrors.ThrowNotFound(name);
                throw new InvalidOperationException();
            }

            // While a run trains, what is its newest or best checkpoint now may be gone when this run's turn comes.
            SpecCheck.That(RunStates.IsTerminal(run.State), "fine_tune.base", $"is {name}, which is {RunStates.NameOf(run.State)}; wait for its end, or name a published model");
            var chosen = EvaluatingStage.Chosen(run);
            SpecCheck.That(chosen.Length > 0, "fine_tune.base", $"is {name}, which has no checkpoint; name a run that has one");
            return chosen;
        }

        if (ResourceName.ParseModel(name) is (_, not null))
        {
            return name;
        }

        var newest = 0;
        await foreach (var (version, _) in ModelVersions.ListAsync(store, name, cancellationToken))
        {
            newest = Math.Max(newest, version);
        }

        return newest > 0 ? $"{name}/versions/{newest}" : throw RpcErrors.Create(
            StatusCode.NotFound, ErrorReasons.NotFound, $"fine_tune.base: '{name}' has no published version. List the models to see what there is.");
    }

    private static async Task<string> FolderAsync(string name, IBlobStore store, CancellationToken cancellationToken)
    {
        try
        {
            return await store.GetVerifiedLocalDirectoryAsync(name, cancellationToken);
        }
        catch (BlobNotFoundException)
        {
            RpcErrors.ThrowNotFound(name);
            throw;
        }
    }

    private static ModelConfig Config(string name, string folder)
    {
        try
        {
            SpecCheck.That(ModelDirectory.Describe(folder).Architecture != NgramTokenModel.Architecture, "fine_tune.base", $"is {name}, an n-gram model, which has no weights to go on with. Name a network");
            return ModelDirectory.ReadConfig(folder);
        }
        catch (InvalidDataException exception)
        {
            throw RpcErrors.Create(StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, $"fine_tune.base: {exception.Message}");
        }
    }

    private static ModelSpec Model(ModelSpec given, ModelConfig config, string name)
    {
        SpecCheck.That(!given.HasPreset, "model.preset", $"is set, but fine_tune.base {name} has its sizes. Leave it out");
        var known = ModelSpecResolver.Resolve(Of(config), hasSize: true);
        foreach (var field in ModelSpec.Descriptor.Fields.InFieldNumberOrder().Where(f => f.Accessor.HasValue(given)))
        {
            if (FreeKeys.Contains(field.Name))
            {
                field.Accessor.SetValue(known, field.Accessor.GetValue(given));
                continue;
            }

            var (wanted, has) = (field.Accessor.GetValue(given), field.Accessor.GetValue(known));
            SpecCheck.That(Equals(wanted, has), $"model.{field.Name}", $"is {wanted}, but {name} has {has}; a fine-tuned model has the sizes of its base. Leave it out");
        }

        return known;
    }

    private static ModelSpec Of(ModelConfig config)
    {
        var model = new ModelSpec
        {
            Architecture = config.Architecture,
            Layers = config.Layers,
            Width = config.Width,
            Context = config.Context,
            Dropout = config.Dropout,
            Bias = config.Bias,
            Tied = config.Tied,
            Objective = config.Objective == Objective.Masked ? "masked" : "causal",
        };
        Set(config.Heads > 0, () => model.Heads = config.Heads);
        Set(config.KvHeads > 0, () => model.KvHeads = config.KvHeads);
        Set(config.FeedForwardWidth > 0, () => model.FeedForwardWidth = config.FeedForwardWidth);
        Set(config.KvHeads > 0, () => model.RopeTheta = config.RopeTheta);
        Set(config.EmbeddingWidth is not null, () => model.EmbeddingWidth = config.EmbeddingWidth!.Value);
        Set(config.VariationalDropout, () => model.VariationalDropout = true);
        Set(config.RecurrentDropout > 0, () => model.RecurrentDropout = config.RecurrentDropout);
        Set(config.Window > 0, () => model.Window = config.Window);
        Set(config.DirectConnections, () => model.DirectConnections = true);
        Set(config.Classes > 0, () => model.Pooling = Poolings.NameOf(config.Pooling));
        return model;

        static void Set(bool condition, Action set)
        {
            if (condition)
            {
                set();
            }
        }
    }

    private static void ResolveMethod(FineTuneSpec tune, ModelConfig config)
    {
        tune.Method = tune.HasMethod ? tune.Method : "full";
        SpecCheck.OneOf(tune.Method, Methods, "fine_tune.method");
        SpecCheck.That(tune.Method == "frozen" || !tune.HasFrozenBlocks, "fine_tune.frozen_blocks", $"is set, but fine_tune.method is {tune.Method}; set it to frozen, or leave this out");
        SpecCheck.That(tune.Method == "frozen" || !tune.HasFrozenEmbedding, "fine_tune.frozen_embedding", $"is set, but fine_tune.method is {tune.Method}; set it to frozen, or leave this out");
        SpecCheck.That(tune.Method == "lora" || tune.Lora is null, "fine_tune.lora", $"is set, but fine_tune.method is {tune.Method}; set it to lora, or leave this out");
        if (tune.Method == "frozen")
        {
            tune.FrozenBlocks = tune.HasFrozenBlocks ? tune.FrozenBlocks : config.Layers - 1;
            SpecCheck.InRange(tune.FrozenBlocks, 0, config.Layers, "fine_tune.frozen_blocks", "the upper end is the number of blocks of the base");
            tune.FrozenEmbedding = !tune.HasFrozenEmbedding || tune.FrozenEmbedding;
            SpecCheck.That(tune.NewTokens.Count == 0 || !tune.FrozenEmbedding, "fine_tune.new_tokens", $"are given, but their embeddings would not be trained; {UnfreezeEmbedding}");
        }

        if (tune.Method == "lora")
        {
            var targets = ModelDirectory.AdapterTargets(config);
            SpecCheck.That(targets.Count > 0, "fine_tune.method", $"is lora, but a {config.Architecture} has no linear layers that it can adapt; take full or frozen");
            var lora = tune.Lora ??= new LoraSpec();
            lora.Rank = lora.HasRank ? lora.Rank : 8;
            SpecCheck.InRange(lora.Rank, 1, 1 << 16, "fine_tune.lora.rank");
            lora.Alpha = lora.HasAlpha ? lora.Alpha : 2 * lora.Rank;
            SpecCheck.Positive(lora.Alpha, 1e6, "fine_tune.lora.alpha");
            lora.Dropout = lora.HasDropout ? lora.Dropout : 0;
            SpecCheck.Share(lora.Dropout, "fine_tune.lora.dropout");
            lora.Merge = !lora.HasMerge || lora.Merge;
            if (lora.Targets.Count == 0)
            {
                lora.Targets.AddRange(targets);
            }

            foreach (var target in lora.Targets)
            {
                SpecCheck.OneOf(target, targets, "fine_tune.lora.targets");
            }
        }
    }

    private static async Task ResolveTokenizerAsync(RunSpec spec, string folder, IBlobStore store, CancellationToken cancellationToken)
    {
        var known = TokenizerOf(folder);
        ITokenizer wanted;
        try
        {
            wanted = spec.FineTune.NewTokens.Count > 0 ? known.Extend(spec.FineTune.NewTokens) : known;
        }
        catch (InvalidDataException exception)
        {
            throw RpcErrors.Create(StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, $"fine_tune.new_tokens: {exception.Message}");
        }

        if (spec.HasDatasetName)
        {
            SpecCheck.That(spec.FineTune.NewTokens.Count == 0, "fine_tune.new_tokens", $"are given, but '{spec.DatasetName}' is encoded already; give the text in dataset instead");
            return;
        }

        if (spec.Dataset is null)
        {
            return;
        }

        var given = spec.Dataset.Tokenizer;
        if (given is null || given.CalculateSize() == 0)
        {
            spec.Dataset.Tokenizer = new TokenizerSpec { Name = await StoredTokenizers.WriteAsync(store, wanted, cancellationToken) };
            return;
        }

        SpecCheck.That(given.HasName, "dataset.tokenizer", $"trains or imports a tokenizer, but the ids are those of the base, {spec.FineTune.Base}. Leave it out, or name a tokenizer with further ids");
        ITokenizer found;
        try
        {
            found = await StoredTokenizers.ReadAsync(store, given.Name, cancellationToken);
        }
        catch (BlobNotFoundException)
        {
            RpcErrors.ThrowNotFound(given.Name);
            throw;
        }

        SpecCheck.That(found.Extends(wanted), "dataset.tokenizer.name",
            $"is {given.Name}, whose ids are not those of the base, {spec.FineTune.Base}{(spec.FineTune.NewTokens.Count > 0 ? ", with fine_tune.new_tokens behind them" : "")}. Leave it out, or name a tokenizer that has all of them and more");
        SpecCheck.That(found.VocabularySize == known.VocabularySize || spec.FineTune is not { Method: "frozen", FrozenEmbedding: true }, "dataset.tokenizer.name",
            $"is {given.Name}, which has ids that {spec.FineTune.Base} does not know, and their embeddings would not be trained; {UnfreezeEmbedding}");
    }

    private static ITokenizer TokenizerOf(string folder) => TokenizerFile.Load(Path.Combine(folder, ModelDirectory.TokenizerFile));
}
