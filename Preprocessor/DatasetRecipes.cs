using LlmPipeline.Datasets.V1;
using LlmPipeline.Text;
using LlmPipeline.Text.Building;
using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Preprocessor;

/// <summary>What the builder makes of resolved specs.</summary>
internal static class DatasetRecipes
{
    public static DatasetRecipe Of(DatasetSpec spec) => new()
    {
        Sources = [.. spec.Sources],
        Mixture = [.. spec.Mixture.Select(p => new MixturePart([.. p.Sources], p.Label, p.HasWeight ? p.Weight : null))],
        TextField = spec.TextField,
        LabelField = spec.HasLabelField ? spec.LabelField : null,
        LabelParts = spec.LabelParts,
        Lines = spec.Documents == "line",
        OnInvalid = spec.OnInvalid == "skip" ? InvalidRecords.Skip : InvalidRecords.Fail,
        Cleaning = Of(spec.Cleaning),
        Tokenizer = new TokenizerRecipe
        {
            Options = new TokenizerOptions
            {
                Kind = spec.Tokenizer.Kind,
                VocabularySize = spec.Tokenizer.VocabularySize,
                MinFrequency = spec.Tokenizer.HasMinFrequency ? spec.Tokenizer.MinFrequency : 1,
                Pattern = spec.Tokenizer.HasPattern ? spec.Tokenizer.Pattern : "default",
                SpecialTokens = [.. spec.Tokenizer.SpecialTokens],
            },
            Name = spec.Tokenizer.HasName ? spec.Tokenizer.Name : null,
            Balance = spec.Tokenizer.HasBalance ? spec.Tokenizer.Balance : 1,
        },
        SplitMethod = spec.Split.Method == "tail" ? SplitMethod.Tail : SplitMethod.Document,
        ValidationFraction = spec.Split.ValidationFraction,
        TestFraction = spec.Split.TestFraction,
        MaxBytes = spec.MaxBytes,
        Order = spec.Order switch { "shuffled" => DocumentOrder.Shuffled, "length" => DocumentOrder.Length, _ => DocumentOrder.Source },
        MaxTokens = spec.MaxTokens,
    };

    private static CleaningOptions Of(CleaningSpec cleaning) => new()
    {
        Unicode = cleaning.Unicode switch { "nfc" => UnicodeMode.Nfc, "nfkc" => UnicodeMode.Nfkc, _ => UnicodeMode.None },
        Whitespace = cleaning.Whitespace,
        Markup = cleaning.Markup == "strip" ? MarkupMode.Strip : MarkupMode.Keep,
        LetterCase = cleaning.LetterCase == "lower" ? LetterCaseMode.Lower : LetterCaseMode.Keep,
        Punctuation = cleaning.Punctuation switch { "normalize" => PunctuationMode.Normalize, "remove" => PunctuationMode.Remove, _ => PunctuationMode.Keep },
        Numbers = cleaning.Numbers switch { "zero" => NumberMode.Zero, "remove" => NumberMode.Remove, _ => NumberMode.Keep },
        Quality = new QualityOptions
        {
            MinCharacters = cleaning.Quality.MinCharacters,
            MaxCharacters = cleaning.Quality.MaxCharacters,
            MaxSymbolRatio = cleaning.Quality.MaxSymbolRatio,
            MaxRepeatedLineRatio = cleaning.Quality.MaxRepeatedLineRatio,
            MaxRepeatedNgramRatio = cleaning.Quality.MaxRepeatedNgramRatio,
        },
        Duplicates = new DuplicateOptions
        {
            Exact = cleaning.Duplicates.Exact,
            Near = cleaning.Duplicates.Near switch { "keep" => NearDuplicateMode.Keep, "remove" => NearDuplicateMode.Remove, _ => NearDuplicateMode.Off },
            Threshold = cleaning.Duplicates.Threshold,
            MemoryMib = cleaning.Duplicates.MemoryMib,
        },
        PersonalData = new PersonalDataOptions
        {
            Action = cleaning.PersonalData.Action switch { "find" => PersonalDataAction.Find, "redact" => PersonalDataAction.Redact, _ => PersonalDataAction.Off },
            Kinds = [.. cleaning.PersonalData.Kinds.Select(k => k switch { "email" => PersonalDataKind.Email, "phone" => PersonalDataKind.Phone, _ => PersonalDataKind.Ip })],
        },
    };
}
