namespace LlmPipeline.Text.Reports;

/// <summary>The script of letters, by their ranges in Unicode (Scripts.txt), for the scripts that hold nearly all text.</summary>
internal static class Scripts
{
    // First and last code point, name by ISO 15924, and the language where one is written in it for the most part.
    private static readonly (int First, int Last, string Script, string? Language)[] Ranges =
    [
        (0x41, 0x5A, "Latn", null), (0x61, 0x7A, "Latn", null), (0xAA, 0xAA, "Latn", null), (0xBA, 0xBA, "Latn", null),
        (0xC0, 0x24F, "Latn", null), (0x250, 0x2AF, "Latn", null), (0x370, 0x3FF, "Grek", "el"), (0x400, 0x52F, "Cyrl", null),
        (0x531, 0x58F, "Armn", "hy"), (0x591, 0x5F4, "Hebr", "he"), (0x600, 0x6FF, "Arab", null), (0x700, 0x74F, "Syrc", null),
        (0x750, 0x77F, "Arab", null), (0x780, 0x7BF, "Thaa", "dv"), (0x7C0, 0x7FF, "Nkoo", null), (0x8A0, 0x8FF, "Arab", null),
        (0x900, 0x97F, "Deva", null), (0x980, 0x9FF, "Beng", "bn"), (0xA00, 0xA7F, "Guru", "pa"), (0xA80, 0xAFF, "Gujr", "gu"),
        (0xB00, 0xB7F, "Orya", "or"), (0xB80, 0xBFF, "Taml", "ta"), (0xC00, 0xC7F, "Telu", "te"), (0xC80, 0xCFF, "Knda", "kn"),
        (0xD00, 0xD7F, "Mlym", "ml"), (0xD80, 0xDFF, "Sinh", "si"), (0xE00, 0xE7F, "Thai", "th"), (0xE80, 0xEFF, "Laoo", "lo"),
        (0xF00, 0xFFF, "Tibt", "bo"), (0x1000, 0x109F, "Mymr", "my"), (0x10A0, 0x10FF, "Geor", "ka"), (0x1100, 0x11FF, "Hang", "ko"),
        (0x1200, 0x139F, "Ethi", "am"), (0x13A0, 0x13FF, "Cher", "chr"), (0x1400, 0x167F, "Cans", null), (0x1780, 0x17FF, "Khmr", "km"),
        (0x1800, 0x18AF, "Mong", "mn"), (0x1C90, 0x1CBF, "Geor", "ka"), (0x1E00, 0x1EFF, "Latn", null), (0x1F00, 0x1FFF, "Grek", "el"),
        (0x2D00, 0x2D2F, "Geor", "ka"), (0x2D30, 0x2D7F, "Tfng", null), (0x2D80, 0x2DDF, "Ethi", "am"), (0x2E80, 0x2FDF, "Hani", "zh"),
        (0x3005, 0x3007, "Hani", "zh"), (0x3040, 0x309F, "Hira", "ja"), (0x30A0, 0x30FF, "Kana", "ja"), (0x3100, 0x312F, "Bopo", "zh"),
        (0x3130, 0x318F, "Hang", "ko"), (0x31F0, 0x31FF, "Kana", "ja"), (0x3400, 0x4DBF, "Hani", "zh"), (0x4E00, 0x9FFF, "Hani", "zh"),
        (0xA000, 0xA4CF, "Yiii", "ii"), (0xA720, 0xA7FF, "Latn", null), (0xAB70, 0xABBF, "Cher", "chr"), (0xAC00, 0xD7FF, "Hang", "ko"),
        (0xF900, 0xFAFF, "Hani", "zh"), (0xFB1D, 0xFB4F, "Hebr", "he"), (0xFB50, 0xFDFF, "Arab", null), (0xFE70, 0xFEFF, "Arab", null),
        (0xFF21, 0xFF5A, "Latn", null), (0xFF66, 0xFF9F, "Kana", "ja"), (0x20000, 0x3FFFF, "Hani", "zh"),
    ];

    private static readonly byte[] Basic = [.. Enumerable.Range(0, 0x10000).Select(c => (byte)(Find(c) + 1))];

    /// <summary>Number of ranges.</summary>
    public static int Count => Ranges.Length;

    /// <summary>The range of a code point, or -1.</summary>
    public static int RangeOf(int codePoint) => codePoint < 0x10000 ? Basic[codePoint] - 1 : Find(codePoint);

    /// <summary>The script of a range.</summary>
    public static string ScriptOf(int range) => Ranges[range].Script;

    /// <summary>The language that a range stands for, or null.</summary>
    public static string? LanguageOf(int range) => Ranges[range].Language;

    private static int Find(int codePoint) => Array.FindIndex(Ranges, r => codePoint >= r.First && codePoint <= r.Last);
}
