using System.Globalization;

namespace LlmPipeline.Text;

/// <summary>Classes of code points that the word boundary rules speak of (UAX 29, table 3).</summary>
internal enum WordBreakClass : byte
{
    Other, CR, LF, Newline, Extend, ZWJ, Format, Regional_Indicator, Katakana, Hebrew_Letter, ALetter,
    Single_Quote, Double_Quote, MidNumLet, MidLetter, MidNum, Numeric, ExtendNumLet, WSegSpace,
}

/// <summary>The property Word_Break of every code point, and whether it is Extended_Pictographic; Unicode 16.0.</summary>
internal static class WordBreakProperty
{
    private const int CodePoints = 0x110000;
    private const byte Pictographic = 0x80;
    private const string Resource = "LlmPipeline.Text.word-break-16.0.txt";

    private static readonly byte[] Classes = Load();

    /// <summary>Class of a code point.</summary>
    public static WordBreakClass Of(int codePoint) => (WordBreakClass)(Classes[codePoint] & ~Pictographic);

    /// <summary>Whether a code point is Extended_Pictographic.</summary>
    public static bool IsPictographic(int codePoint) => (Classes[codePoint] & Pictographic) != 0;

    private static byte[] Load()
    {
        var classes = new byte[CodePoints];
        using var reader = new StreamReader(typeof(WordBreakProperty).Assembly.GetManifestResourceStream(Resource)!);
        byte value = 0;
        while (reader.ReadLine() is { } line)
        {
            if (line.StartsWith('#'))
            {
                continue;
            }

            if (!line.StartsWith(' '))
            {
                value = line == "Extended_Pictographic" ? Pictographic : (byte)Enum.Parse<WordBreakClass>(line);
                continue;
            }

            foreach (var range in line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            {
                var ends = range.Split('-');
                for (var c = Hex(ends[0]); c <= Hex(ends[^1]); c++)
                {
                    classes[c] |= value;
                }
            }
        }

        return classes;
    }

    private static int Hex(string text) => int.Parse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
}
