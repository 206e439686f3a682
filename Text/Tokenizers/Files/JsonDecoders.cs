namespace LlmPipeline.Text;

/// <summary>Reads "decoder".</summary>
internal static class JsonDecoders
{
    /// <summary>Drops the spaces beside line feeds, after <c>Fuse</c>.</summary>
    public const string TightLineFeeds = " ?\n ?";

    private const string Known = "ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, WordPiece, BPEDecoder and Sequence";

    /// <summary>The steps of a decoder.</summary>
    public static IReadOnlyList<DecoderStep> Read(JsonPart part)
    {
        var steps = new List<DecoderStep>();
        Add(part, steps);
        return steps;
    }

    private static void Add(JsonPart part, List<DecoderStep> steps)
    {
        var fused = steps.Any(s => s is DecoderStep.Fuse);
        switch (part.Text("type"))
        {
            case "Sequence":
                foreach (var step in part.Get("decoders").Items())
                {
                    Add(step, steps);
                }

                break;
            case "ByteLevel":
                steps.Add(new DecoderStep.ByteLevel());
                break;
            case "ByteFallback":
                steps.Add(new DecoderStep.ByteFallback());
                break;
            case "Fuse":
                steps.Add(new DecoderStep.Fuse());
                break;
            case "Replace":
                steps.Add(Replace(part, fused));
                break;
            case "Strip":
                var strip = new DecoderStep.Strip(part.Character("content"), part.Get("start").AsInt(0, 1000), part.Get("stop").AsInt(0, 1000));
                if (fused && (strip.Start > 1 || strip.Stop > 0))
                {
                    part.Fail("strips more than one character at the begin, or some at the end, of the whole text, which is not supported.");
                }

                steps.Add(strip);
                break;
            case "Metaspace":
                steps.Add(new DecoderStep.Metaspace(part.Character("replacement"), JsonPreTokenizers.Scheme(part) != PrependScheme.Never));
                break;
            case "WordPiece":
                steps.Add(new DecoderStep.WordPiece(part.TextOrNull("prefix") ?? "##", part.Bool("cleanup", true)));
                break;
            case "BPEDecoder":
                steps.Add(new DecoderStep.EndOfWord(part.TextOrNull("suffix") ?? "</w>"));
                break;
            case var type:
                throw new InvalidDataException($"{part.Path}.type is {JsonPart.Quote(type)}: only {Known} are supported.");
        }
    }

    private static DecoderStep Replace(JsonPart part, bool fused)
    {
        var (pattern, content) = (part.Get("pattern"), part.Text("content"));
        if (!fused)
        {
            return new DecoderStep.Replace(JsonPatterns.Read(pattern), content);
        }

        if (pattern.TextOrNull("Regex") != TightLineFeeds || content != "\n")
        {
            part.Fail("replaces within the whole text, which is not supported: a stream of tokens could not be decoded one by one.");
        }

        return new DecoderStep.TightLineFeeds();
    }
}
