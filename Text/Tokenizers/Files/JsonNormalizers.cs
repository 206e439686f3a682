using System.Text;

namespace LlmPipeline.Text;

/// <summary>Reads "normalizer".</summary>
internal static class JsonNormalizers
{
    private const string Known = "NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace, Prepend, BertNormalizer, Precompiled and Sequence";

    public static Normalizer? Read(JsonPart part) => part.Text("type") switch
    {
        "Sequence" => Sequence([.. part.Get("normalizers").Items().Select(Read).OfType<Normalizer>()]),
        "NFC" => new UnicodeNormalizer(NormalizationForm.FormC),
        "NFD" => new UnicodeNormalizer(NormalizationForm.FormD),
        "NFKC" => new UnicodeNormalizer(NormalizationForm.FormKC),
        "NFKD" => new UnicodeNormalizer(NormalizationForm.FormKD),
        "Lowercase" => new RuneNormalizer(RuneNormalizer.Lower),
        "StripAccents" => new RuneNormalizer(RuneNormalizer.DropMarks),
        "Strip" => new StripNormalizer(part.Bool("strip_left", true), part.Bool("strip_right", true)),
        "Replace" => new ReplaceNormalizer(JsonPatterns.Read(part.Get("pattern")), part.Text("content")),
        "Prepend" => new PrependNormalizer(part.Text("prepend")),
        "BertNormalizer" => Bert(part),
        "Precompiled" => Precompiled(part),
        var type => throw new InvalidDataException($"{part.Path}.type is {JsonPart.Quote(type)}: only {Known} are supported."),
    };

    private static Normalizer? Sequence(List<Normalizer> steps) => steps switch
    {
        [] => null,
        [var only] => only,
        _ => new NormalizerSequence(steps),
    };

    private static Normalizer? Bert(JsonPart part)
    {
        var lower = part.Bool("lowercase", true);
        var steps = new List<Normalizer>();
        if (part.Bool("clean_text", true))
        {
            steps.Add(new RuneNormalizer(RuneNormalizer.CleanBert));
        }

        if (part.Bool("handle_chinese_chars", true))
        {
            steps.Add(new RuneNormalizer(RuneNormalizer.SpaceChinese));
        }

        if (part.Bool("strip_accents", lower))
        {
            steps.Add(new UnicodeNormalizer(NormalizationForm.FormD));
            steps.Add(new RuneNormalizer(RuneNormalizer.DropNonSpacingMarks));
        }

        if (lower)
        {
            steps.Add(new RuneNormalizer(RuneNormalizer.Lower));
        }

        return Sequence(steps);
    }

    private static PrecompiledNormalizer Precompiled(JsonPart part)
    {
        var text = part.Get("precompiled_charsmap");
        var table = new byte[(text.AsText().Length * 3 / 4) + 3];
        if (!Convert.TryFromBase64String(text.AsText(), table, out var length))
        {
            text.Fail("is not base64.");
        }

        try
        {
            return new PrecompiledNormalizer(table.AsSpan(0, length));
        }
        catch (InvalidDataException exception)
        {
            throw new InvalidDataException($"{text.Path} {exception.Message}", exception);
        }
    }
}
