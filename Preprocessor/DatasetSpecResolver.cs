using Google.Protobuf.Collections;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Text.Sources;
using Microsoft.Extensions.Options;
using static LlmPipeline.Preprocessor.SpecChecks;

namespace LlmPipeline.Preprocessor;

/// <summary>A spec with every default filled in.</summary>
/// <param name="Spec">For the record; resolved again, it gives itself.</param>
/// <param name="Files">What its sources name now.</param>
internal sealed record ResolvedSpec(DatasetSpec Spec, IReadOnlyCollection<SourceFile> Files);

/// <summary>Checks specs and fills in what they leave open. Errors name the field.</summary>
internal sealed class DatasetSpecResolver(IOptions<PreprocessorOptions> options, TokenizerResolver tokenizers)
{
    private const int MaxSources = 1000;
    private const int MaxParts = 200;
    private const int MaxLabelLength = 100;
    private const double MinWeight = 1e-6;
    private const double MaxWeight = 1e6;

    // With a twentieth for validation, this many documents leave it empty once in 30,000 times.
    private const int FewDocuments = 200;

    /// <summary>Resolves a spec and finds its files.</summary>
    /// <exception cref="RpcException">INVALID_ARGUMENT, or NOT_FOUND for a tokenizer that does not exist.</exception>
    public async Task<ResolvedSpec> ResolveAsync(DatasetSpec? spec, CancellationToken cancellationToken)
    {
        var resolved = spec?.Clone() ?? throw Invalid("spec", "is not set. Give at least spec.sources.");
        ResolveLimits(resolved);
        ResolveSources(resolved);
        resolved.Cleaning = CleaningResolver.Resolve(resolved.Cleaning ?? new CleaningSpec());
        resolved.Tokenizer = await tokenizers.ResolveAsync(resolved.Tokenizer ?? new TokenizerSpec(), cancellationToken);

        var files = await FindFilesAsync(resolved, cancellationToken);
        resolved.Split = Resolve(resolved.Split ?? new SplitSpec(), files, HasLabels(resolved) || resolved.Documents == "line");
        Require(!HasLabels(resolved) || resolved.Split.Method == "document", "split.method", "is tail, which cuts documents, but they have labels here. Set it to document, or leave it out.");
        Require(!resolved.HasLabelField || !files.Any(f => f.Format is SourceFormat.PlainText or SourceFormat.XmlDocumentation), "label_field", "is set, but plain text and XML documentation have no fields. Give .jsonl, .csv, .tsv or .parquet files, or set label_parts.");
        return new ResolvedSpec(resolved, files);
    }

    private static void ResolveLimits(DatasetSpec spec)
    {
        spec.TextField = spec.HasTextField ? spec.TextField : "text";
        spec.MaxBytes = spec.HasMaxBytes ? spec.MaxBytes : 0;
        spec.MaxTokens = spec.HasMaxTokens ? spec.MaxTokens : 0;
        spec.Order = spec.HasOrder ? spec.Order : spec.Mixture.Count > 0 ? "shuffled" : "source";
        spec.OnInvalid = spec.HasOnInvalid ? spec.OnInvalid : "fail";
        Require(spec.TextField.Length is > 0 and <= 200, "text_field", "has to have 1 to 200 characters.");
        RequireNotNegative(spec.MaxBytes, "max_bytes", "to read everything");
        RequireNotNegative(spec.MaxTokens, "max_tokens", "to write everything");
        RequireOneOf(spec.Order, "order", "source", "shuffled", "length");
        RequireOneOf(spec.OnInvalid, "on_invalid", "fail", "skip");
        spec.Documents = spec.HasDocuments ? spec.Documents : "file";
        RequireOneOf(spec.Documents, "documents", "file", "line");
        ResolveLabels(spec);
    }

    private static void ResolveLabels(DatasetSpec spec)
    {
        Require(!spec.HasLabelField || spec.LabelField.Length is > 0 and <= 200, "label_field", "has to have 1 to 200 characters.");
        Require(!spec.HasLabelField || spec.LabelField != spec.TextField, "label_field", $"is '{spec.LabelField}', which is the text_field too. Name the field that holds the class.");
        Require(!spec.LabelParts || !spec.HasLabelField, "label_parts", "is true, and label_field is set too; give one of them.");
        Require(!spec.LabelParts || spec.Mixture.Count > 1, "label_parts", $"is true, but mixture has {spec.Mixture.Count} parts. Give a part, with a label, for each class.");
        if (HasLabels(spec))
        {
            Require(spec.MaxTokens == 0 && !spec.Mixture.Any(p => p.HasWeight), "max_tokens", "and weights cut and repeat documents, which have labels here. Leave them out.");
        }
    }

    private static bool HasLabels(DatasetSpec spec) => spec.HasLabelField || spec.LabelParts;

    private static void ResolveSources(DatasetSpec spec)
    {
        if (spec.Mixture.Count == 0)
        {
            Resolve(spec.Sources, "sources");
            return;
        }

        Require(spec.Sources.Count == 0, "sources", "cannot be set together with spec.mixture. Make it a part of the mixture.");
        Require(spec.Mixture.Count <= MaxParts, "mixture", $"has {spec.Mixture.Count} parts; at most {MaxParts} are allowed.");
        var weighted = spec.MaxTokens > 0 || spec.Mixture.Any(p => p.HasWeight);
        var labels = new HashSet<string>(StringComparer.Ordinal);
        for (var i = 0; i < spec.Mixture.Count; i++)
        {
            var part = spec.Mixture[i];
            Resolve(part.Sources, $"mixture[{i}].sources");
            part.Label = part.HasLabel ? part.Label : Quoted(part.Sources[0]);
            Require(part.Label.Length is > 0 and <= MaxLabelLength && !part.Label.Any(char.IsControl), $"mixture[{i}].label", $"has to have 1 to {MaxLabelLength} characters.");
            Require(labels.Add(part.Label), $"mixture[{i}].label", $"is '{part.Label}', as that of an earlier part. Give each part a label of its own.");
            if (weighted)
            {
                part.Weight = part.HasWeight ? part.Weight : 1;
                RequireBetween(part.Weight, MinWeight, MaxWeight, $"mixture[{i}].weight");
            }
        }
    }

    private static void Resolve(RepeatedField<string> sources, string field)
    {
        Require(sources.Count > 0, field, "is empty. Give dotnet-docs:, a file, a folder, a glob or an address.");
        Require(sources.Count <= MaxSources, field, $"has {sources.Count} entries; at most {MaxSources} are allowed. Name folders or globs.");
        for (var i = 0; i < sources.Count; i++)
        {
            Require(!string.IsNullOrWhiteSpace(sources[i]), $"{field}[{i}]", "is empty.");
            Require(!sources[i].Contains('\0', StringComparison.Ordinal), $"{field}[{i}]", "contains a NUL character.");
            sources[i] = SourceFiles.Resolve(sources[i]);
        }
    }

    private static SplitSpec Resolve(SplitSpec split, IReadOnlyCollection<SourceFile> files, bool byDocument)
    {
        var fewDocuments = !byDocument && files.Count < FewDocuments && files.All(f => f.Format == SourceFormat.PlainText);
        split.Method = split.HasMethod ? split.Method : fewDocuments ? "tail" : "document";
        split.ValidationFraction = split.HasValidationFraction ? split.ValidationFraction : 0.05;
        split.TestFraction = split.HasTestFraction ? split.TestFraction : 0;
        RequireOneOf(split.Method, "split.method", "document", "tail");
        RequireBetween(split.ValidationFraction, 0, 0.5, "split.validation_fraction");
        RequireBetween(split.TestFraction, 0, 0.5, "split.test_fraction");
        Require(split.ValidationFraction + split.TestFraction < 1, "split", "leaves nothing to train on: validation_fraction and test_fraction have to add up to less than 1.");
        return split;
    }

    private async Task<IReadOnlyCollection<SourceFile>> FindFilesAsync(DatasetSpec spec, CancellationToken cancellationToken)
    {
        foreach (var source in spec.Sources.Concat(spec.Mixture.SelectMany(p => p.Sources)).Where(s => !options.Value.MayRead(s)))
        {
            throw Invalid("sources", $"names '{source}', which is not in a folder that this service may read ({string.Join(", ", options.Value.SourceRoots)}).");
        }

        try
        {
            return await DatasetSources.FindAsync(spec, options.Value.Sources(), cancellationToken);
        }
        catch (TextSourceException exception)
        {
            throw RpcErrors.Create(StatusCode.InvalidArgument, DatasetErrors.ReasonOf(exception.Problem), exception.Message);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw RpcErrors.Create(StatusCode.InvalidArgument, ErrorReasons.SourceNotFound, $"The sources cannot be listed: {exception.Message}");
        }
    }
}
