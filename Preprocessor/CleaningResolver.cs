using LlmPipeline.Datasets.V1;
using static LlmPipeline.Preprocessor.SpecChecks;

namespace LlmPipeline.Preprocessor;

/// <summary>Fills in and checks <c>spec.cleaning</c>.</summary>
internal static class CleaningResolver
{
    private const int MaxMemoryMib = 1 << 16;

    public static CleaningSpec Resolve(CleaningSpec cleaning)
    {
        cleaning.Unicode = cleaning.HasUnicode ? cleaning.Unicode : "nfc";
        cleaning.Whitespace = cleaning.HasWhitespace && cleaning.Whitespace;
        cleaning.Markup = cleaning.HasMarkup ? cleaning.Markup : "keep";
        cleaning.LetterCase = cleaning.HasLetterCase ? cleaning.LetterCase : "keep";
        cleaning.Punctuation = cleaning.HasPunctuation ? cleaning.Punctuation : "keep";
        cleaning.Numbers = cleaning.HasNumbers ? cleaning.Numbers : "keep";
        RequireOneOf(cleaning.Unicode, "cleaning.unicode", "none", "nfc", "nfkc");
        RequireOneOf(cleaning.Markup, "cleaning.markup", "keep", "strip");
        RequireOneOf(cleaning.LetterCase, "cleaning.letter_case", "keep", "lower");
        RequireOneOf(cleaning.Punctuation, "cleaning.punctuation", "keep", "normalize", "remove");
        RequireOneOf(cleaning.Numbers, "cleaning.numbers", "keep", "zero", "remove");
        cleaning.Quality = Resolve(cleaning.Quality ?? new QualitySpec());
        cleaning.Duplicates = Resolve(cleaning.Duplicates ?? new DuplicateSpec());
        cleaning.PersonalData = Resolve(cleaning.PersonalData ?? new PersonalDataSpec());
        return cleaning;
    }

    private static QualitySpec Resolve(QualitySpec quality)
    {
        quality.MinCharacters = quality.HasMinCharacters ? quality.MinCharacters : 0;
        quality.MaxCharacters = quality.HasMaxCharacters ? quality.MaxCharacters : 0;
        quality.MaxSymbolRatio = quality.HasMaxSymbolRatio ? quality.MaxSymbolRatio : 0;
        quality.MaxRepeatedLineRatio = quality.HasMaxRepeatedLineRatio ? quality.MaxRepeatedLineRatio : 0;
        quality.MaxRepeatedNgramRatio = quality.HasMaxRepeatedNgramRatio ? quality.MaxRepeatedNgramRatio : 0;
        RequireNotNegative(quality.MinCharacters, "cleaning.quality.min_characters", "for no limit");
        RequireNotNegative(quality.MaxCharacters, "cleaning.quality.max_characters", "for no limit");
        Require(quality.MaxCharacters == 0 || quality.MaxCharacters >= quality.MinCharacters, "cleaning.quality.max_characters",
            $"is {quality.MaxCharacters}, less than min_characters ({quality.MinCharacters}): no document could pass.");
        RequireBetween(quality.MaxSymbolRatio, 0, 1, "cleaning.quality.max_symbol_ratio");
        RequireBetween(quality.MaxRepeatedLineRatio, 0, 1, "cleaning.quality.max_repeated_line_ratio");
        RequireBetween(quality.MaxRepeatedNgramRatio, 0, 1, "cleaning.quality.max_repeated_ngram_ratio");
        return quality;
    }

    private static DuplicateSpec Resolve(DuplicateSpec duplicates)
    {
        duplicates.Exact = !duplicates.HasExact || duplicates.Exact;
        duplicates.Near = duplicates.HasNear ? duplicates.Near : "off";
        duplicates.Threshold = duplicates.HasThreshold ? duplicates.Threshold : 0.8;
        duplicates.MemoryMib = duplicates.HasMemoryMib ? duplicates.MemoryMib : 128;
        RequireOneOf(duplicates.Near, "cleaning.duplicates.near", "off", "keep", "remove");
        RequireBetween(duplicates.Threshold, 0.5, 1, "cleaning.duplicates.threshold");
        RequireBetween(duplicates.MemoryMib, 1, MaxMemoryMib, "cleaning.duplicates.memory_mib");
        return duplicates;
    }

    private static PersonalDataSpec Resolve(PersonalDataSpec personal)
    {
        personal.Action = personal.HasAction ? personal.Action : "off";
        RequireOneOf(personal.Action, "cleaning.personal_data.action", "off", "find", "redact");
        for (var i = 0; i < personal.Kinds.Count; i++)
        {
            RequireOneOf(personal.Kinds[i], $"cleaning.personal_data.kinds[{i}]", "email", "phone", "ip");
            Require(personal.Kinds.IndexOf(personal.Kinds[i]) == i, $"cleaning.personal_data.kinds[{i}]", $"names '{personal.Kinds[i]}' again.");
        }

        return personal;
    }
}
