using Google.Protobuf.Collections;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Text;
using static LlmPipeline.Preprocessor.SpecChecks;

namespace LlmPipeline.Preprocessor;

/// <summary>Fills in and checks <c>spec.tokenizer</c>.</summary>
internal sealed class TokenizerResolver(TokenizerCache tokenizers, TokenizerLibrary library)
{
    private const int MaxVocabularySize = 1 << 20;
    private const int DefaultVocabularySize = 4096;
    private const int MaxSpecialTokens = 1000;
    private const int MaxSpecialTokenLength = 200;

    /// <summary>Resolves the tokenizer.</summary>
    /// <exception cref="Grpc.Core.RpcException">INVALID_ARGUMENT, or NOT_FOUND for a tokenizer that does not exist.</exception>
    public async Task<TokenizerSpec> ResolveAsync(TokenizerSpec spec, CancellationToken cancellationToken)
    {
        if (spec.HasName)
        {
            return await ResolveExistingAsync(spec, cancellationToken);
        }

        if (spec.HasFile)
        {
            // The file may change or go; what was read of it is kept.
            var (file, kind) = (spec.File, spec.HasKind ? spec.Kind : null);
            spec.ClearFile();
            spec.Name = await library.ImportAsync(file, cancellationToken);
            Require(kind is null || kind == (await tokenizers.GetAsync(spec.Name, cancellationToken)).Kind, "tokenizer.kind", $"is '{kind}', which '{Quoted(file)}' is not. Leave it out.");
            return await ResolveExistingAsync(spec, cancellationToken);
        }

        spec.Kind = spec.HasKind ? spec.Kind : "bpe";
        RequireOneOf(spec.Kind, "tokenizer.kind", [.. TokenizerTrainer.Kinds]);
        ResolveSize(spec);
        Require(spec.Kind != "bpe" || !spec.HasMinFrequency, "tokenizer.min_frequency", "is not for kind bpe, which knows every byte. Leave it out.");
        if (spec.Kind != "bpe")
        {
            spec.MinFrequency = spec.HasMinFrequency ? spec.MinFrequency : 1;
            Require(spec.MinFrequency >= 1, "tokenizer.min_frequency", $"is {spec.MinFrequency}; it has to be 1 or more.");
        }

        Require(spec.Kind == "bpe" || !spec.HasPattern, "tokenizer.pattern", "is only for kind bpe. Leave it out.");
        if (spec.Kind == "bpe")
        {
            spec.Pattern = spec.HasPattern ? spec.Pattern : "default";
            RequirePattern(spec.Pattern);
        }

        RequireSpecialTokens(spec.SpecialTokens);
        spec.Balance = spec.HasBalance ? spec.Balance : 1;
        RequireBetween(spec.Balance, 0, 1, "tokenizer.balance");
        return spec;
    }

    private async Task<TokenizerSpec> ResolveExistingAsync(TokenizerSpec spec, CancellationToken cancellationToken)
    {
        Require(!spec.HasFile, "tokenizer.file", "cannot be set together with tokenizer.name. Leave one out.");
        foreach (var (isSet, field) in new[]
        {
            (spec.HasMinFrequency, "min_frequency"), (spec.HasPattern, "pattern"), (spec.SpecialTokens.Count > 0, "special_tokens"), (spec.HasBalance, "balance"),
        })
        {
            Require(!isSet, $"tokenizer.{field}", $"is for a tokenizer that is trained, and '{Quoted(spec.Name)}' exists. Leave it out.");
        }

        var existing = await tokenizers.GetAsync(spec.Name, cancellationToken);
        Require(!spec.HasKind || spec.Kind == existing.Kind, "tokenizer.kind", $"is '{Quoted(spec.Kind)}', but '{spec.Name}' is of kind '{existing.Kind}'. Leave it out.");
        Require(!spec.HasVocabularySize || spec.VocabularySize == existing.VocabularySize, "tokenizer.vocabulary_size",
            $"is {spec.VocabularySize}, but '{spec.Name}' has {existing.VocabularySize} ids. Leave it out.");
        spec.Kind = existing.Kind;
        spec.VocabularySize = existing.VocabularySize;
        return spec;
    }

    private static void ResolveSize(TokenizerSpec spec)
    {
        if (spec.Kind == "character")
        {
            Require(!spec.HasVocabularySize, "tokenizer.vocabulary_size", "is not for kind character: the characters of the text make the vocabulary. Leave it out.");
            return;
        }

        spec.VocabularySize = spec.HasVocabularySize ? spec.VocabularySize : spec.Kind == "grapheme" ? 0 : DefaultVocabularySize;
        var special = spec.SpecialTokens.Count;
        var (least, why) = spec.Kind switch
        {
            "bpe" => (BpeTrainer.MinVocabularySize + special, "256 bytes, the end of text and the special tokens"),
            "grapheme" => (0, "0 is no limit"),
            _ => (3 + special, "the end of text, the unknown token, the special tokens and something to say"),
        };
        Require(spec.VocabularySize >= least && spec.VocabularySize <= MaxVocabularySize, "tokenizer.vocabulary_size",
            $"is {spec.VocabularySize}; it has to be from {least} ({why}) to {MaxVocabularySize}.");
    }

    private static void RequirePattern(string pattern)
    {
        try
        {
            WordSplitter.Create(pattern);
        }
        catch (InvalidDataException exception)
        {
            throw Invalid("tokenizer.pattern", $"cannot be used: {exception.Message}");
        }
    }

    private static void RequireSpecialTokens(RepeatedField<string> tokens)
    {
        Require(tokens.Count <= MaxSpecialTokens, "tokenizer.special_tokens", $"has {tokens.Count} entries; at most {MaxSpecialTokens} are allowed.");
        for (var i = 0; i < tokens.Count; i++)
        {
            Require(tokens[i].Length is > 1 and <= MaxSpecialTokenLength, $"tokenizer.special_tokens[{i}]", $"has to have 2 to {MaxSpecialTokenLength} characters, as <|name|>.");
            Require(tokens[i] != "<|endoftext|>", $"tokenizer.special_tokens[{i}]", "is <|endoftext|>, which is always there. Leave it out.");
            Require(tokens.IndexOf(tokens[i]) == i, $"tokenizer.special_tokens[{i}]", $"names '{tokens[i]}' again.");
        }
    }
}
