using System.Globalization;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Text.Building;
using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Sources;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Preprocessor;

/// <summary>A spec with every default filled in.</summary>
/// <param name="Spec">For the record; resolved again, it gives itself.</param>
/// <param name="Files">What its sources name now.</param>
internal sealed record ResolvedSpec(DatasetSpec Spec, IReadOnlyList<SourceFile> Files);

/// <summary>Checks specs and fills in what they leave open. Errors name the field.</summary>
internal sealed class DatasetSpecResolver(IOptions<PreprocessorOptions> options, TokenizerCache tokenizers)
{
    /// <summary>Byte-level BPE has all bytes and the end-of-text token.</summary>
    private const int MinVocabularySize = 257;

    private const int MaxVocabularySize = 1 << 20;
    private const int MaxSources = 1000;

    // With a twentieth for validation, this many documents leave it empty once in 30,000 times.
    private const int FewDocuments = 200;

    /// <summary>Resolves a spec and finds its files.</summary>
    /// <exception cref="RpcException">INVALID_ARGUMENT, or NOT_FOUND for a tokenizer that does not exist.</exception>
    public async Task<ResolvedSpec> ResolveAsync(DatasetSpec? spec, CancellationToken cancellationToken)
    {
        var resolved = spec?.Clone() ?? throw Invalid("spec", "is not set. Give at least spec.sources.");
        Require(resolved.Sources.Count > 0, "sources", "is empty. Give dotnet-docs:, a file, a folder or a glob.");
        Require(resolved.Sources.Count <= MaxSources, "sources", $"has {resolved.Sources.Count} entries; at most {MaxSources} are allowed. Name folders or globs.");
        for (var i = 0; i < resolved.Sources.Count; i++)
        {
            Require(!string.IsNullOrWhiteSpace(resolved.Sources[i]), $"sources[{i}]", "is empty.");
            Require(!resolved.Sources[i].Contains('\0', StringComparison.Ordinal), $"sources[{i}]", "contains a NUL character.");
            resolved.Sources[i] = SourceFiles.Resolve(resolved.Sources[i]);
        }

        resolved.TextField = resolved.HasTextField ? resolved.TextField : "text";
        Require(resolved.TextField.Length is > 0 and <= 200, "text_field", "has to have 1 to 200 characters.");
        resolved.MaxBytes = resolved.HasMaxBytes ? resolved.MaxBytes : 0;
        Require(resolved.MaxBytes >= 0, "max_bytes", $"is {resolved.MaxBytes}; use 0 to read everything, or a positive number.");
        resolved.Cleaning = Resolve(resolved.Cleaning ?? new CleaningSpec());
        resolved.Tokenizer = await ResolveAsync(resolved.Tokenizer ?? new TokenizerSpec(), cancellationToken);

        var files = await FindFilesAsync(resolved.Sources, cancellationToken);
        resolved.Split = Resolve(resolved.Split ?? new SplitSpec(), files);
        return new ResolvedSpec(resolved, files);
    }

    /// <summary>What the builder makes of a resolved spec.</summary>
    public static DatasetRecipe ToRecipe(DatasetSpec spec) => new()
    {
        Sources = [.. spec.Sources],
        TextField = spec.TextField,
        Cleaning = new CleaningOptions
        {
            Unicode = spec.Cleaning.Unicode switch { "nfc" => UnicodeMode.Nfc, "nfkc" => UnicodeMode.Nfkc, _ => UnicodeMode.None },
            Whitespace = spec.Cleaning.Whitespace,
        },
        TokenizerKind = spec.Tokenizer.Kind,
        VocabularySize = spec.Tokenizer.VocabularySize,
        TokenizerName = spec.Tokenizer.HasName ? spec.Tokenizer.Name : null,
        SplitMethod = spec.Split.Method == "tail" ? SplitMethod.Tail : SplitMethod.Document,
        ValidationFraction = spec.Split.ValidationFraction,
        TestFraction = spec.Split.TestFraction,
        MaxBytes = spec.MaxBytes,
    };

    private static CleaningSpec Resolve(CleaningSpec cleaning)
    {
        cleaning.Unicode = cleaning.HasUnicode ? cleaning.Unicode : "nfc";
        cleaning.Whitespace = cleaning.HasWhitespace && cleaning.Whitespace;
        RequireOneOf(cleaning.Unicode, "cleaning.unicode", "none", "nfc", "nfkc");
        return cleaning;
    }

    private async Task<TokenizerSpec> ResolveAsync(TokenizerSpec spec, CancellationToken cancellationToken)
    {
        if (spec.HasName)
        {
            var existing = await tokenizers.GetAsync(spec.Name, cancellationToken);
            Require(!spec.HasKind || spec.Kind == existing.Kind, "tokenizer.kind", $"is '{spec.Kind}', but '{spec.Name}' is of kind '{existing.Kind}'. Leave it out.");
            Require(!spec.HasVocabularySize || spec.VocabularySize == existing.VocabularySize, "tokenizer.vocabulary_size",
                $"is {spec.VocabularySize}, but '{spec.Name}' has {existing.VocabularySize} ids. Leave it out.");
            spec.Kind = existing.Kind;
            spec.VocabularySize = existing.VocabularySize;
            return spec;
        }

        spec.Kind = spec.HasKind ? spec.Kind : "bpe";
        RequireOneOf(spec.Kind, "tokenizer.kind", "bpe", "character");
        if (spec.Kind == "character")
        {
            Require(!spec.HasVocabularySize, "tokenizer.vocabulary_size", "is only for kind bpe: the characters of the text make the vocabulary. Leave it out.");
            return spec;
        }

        spec.VocabularySize = spec.HasVocabularySize ? spec.VocabularySize : 4096;
        Require(spec.VocabularySize is >= MinVocabularySize and <= MaxVocabularySize, "tokenizer.vocabulary_size",
            $"is {spec.VocabularySize}; it has to be from {MinVocabularySize} (256 bytes and the end of text) to {MaxVocabularySize}.");
        return spec;
    }

    private static SplitSpec Resolve(SplitSpec split, IReadOnlyList<SourceFile> files)
    {
        var fewDocuments = files.Count < FewDocuments && files.All(f => f.Format == SourceFormat.PlainText);
        split.Method = split.HasMethod ? split.Method : fewDocuments ? "tail" : "document";
        split.ValidationFraction = split.HasValidationFraction ? split.ValidationFraction : 0.05;
        split.TestFraction = split.HasTestFraction ? split.TestFraction : 0;
        RequireOneOf(split.Method, "split.method", "document", "tail");
        RequireShare(split.ValidationFraction, "split.validation_fraction");
        RequireShare(split.TestFraction, "split.test_fraction");
        Require(split.ValidationFraction + split.TestFraction < 1, "split", "leaves nothing to train on: validation_fraction and test_fraction have to add up to less than 1.");
        return split;
    }

    private async Task<IReadOnlyList<SourceFile>> FindFilesAsync(IReadOnlyList<string> sources, CancellationToken cancellationToken)
    {
        foreach (var source in sources.Where(s => s != DotnetDocs.Source && !IsAllowed(s)))
        {
            throw Invalid("sources", $"names '{source}', which is not in a folder that this service may read ({string.Join(", ", options.Value.SourceRoots)}).");
        }

        try
        {
            return await SourceFiles.FindAsync(sources, new SourceOptions(), cancellationToken);
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

    private bool IsAllowed(string path) => options.Value.SourceRoots.Length == 0 || options.Value.SourceRoots.Any(root =>
        path.StartsWith(Path.TrimEndingDirectorySeparator(Path.GetFullPath(root)) + Path.DirectorySeparatorChar, StringComparison.Ordinal)
        || path == Path.TrimEndingDirectorySeparator(Path.GetFullPath(root)));

    private static void RequireShare(double share, string field) =>
        Require(share is >= 0 and <= 0.5, field, string.Create(CultureInfo.InvariantCulture, $"is {share}; it has to be from 0 to 0.5."));

    private static void RequireOneOf(string value, string field, params string[] allowed) =>
        Require(allowed.Contains(value), field, $"is '{(value.Length > 80 ? value[..80] : value)}'; it has to be one of {string.Join(", ", allowed)}.");

    private static void Require(bool condition, string field, string problem)
    {
        if (!condition)
        {
            throw Invalid(field, problem);
        }
    }

    private static RpcException Invalid(string field, string problem) =>
        RpcErrors.Create(StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, field == "spec" ? $"spec {problem}" : $"spec.{field} {problem}");
}
