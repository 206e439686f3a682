namespace LlmPipeline.Text.Cleaning;

/// <summary>Groups of digits that one separator or a pair of parentheses divides, as phone numbers are written.</summary>
internal readonly struct PhoneGroups
{
    private const int MaxGroups = 8;

    private readonly (int Start, int End, char Separator)[] _groups;
    private readonly string _text;

    private PhoneGroups(string text, (int, int, char)[] groups, int count, bool hasPlus, bool hasParentheses)
    {
        (_text, _groups, Count, HasPlus, HasParentheses) = (text, groups, count, hasPlus, hasParentheses);
    }

    /// <summary>Number of groups.</summary>
    public int Count { get; }

    /// <summary>Whether it begins with a plus.</summary>
    public bool HasPlus { get; }

    /// <summary>Whether the first group of a national number is in parentheses.</summary>
    public bool HasParentheses { get; }

    /// <summary>Whether it begins with a plus or 00.</summary>
    public bool IsInternational => HasPlus || (!HasParentheses && Count > 0 && Length(0) >= 2 && First(0) == '0' && _text[_groups[0].Start + 1] == '0');

    /// <summary>Whether it begins with 0 and another digit.</summary>
    public bool StartsWithTrunkZero => Count > 0 && Length(0) >= 2 && First(0) == '0' && _text[_groups[0].Start + 1] != '0';

    /// <summary>Reads at most eight groups.</summary>
    public static PhoneGroups Read(string text, int start)
    {
        var at = start;
        var hasPlus = text[at] == '+';
        at += hasPlus ? 1 : 0;
        var hasParentheses = !hasPlus && at < text.Length && text[at] == '(';
        var groups = new (int, int, char)[MaxGroups];
        var count = 0;
        var separator = '\0';
        while (count < MaxGroups)
        {
            // Parentheses hold an area code: the first group, or the second after a country code.
            var open = at < text.Length && text[at] == '(' && (count == 0 ? !hasPlus : hasPlus && count == 1);
            at += open ? 1 : 0;
            var first = at;
            while (at < text.Length && at - first <= 15 && char.IsAsciiDigit(text[at]))
            {
                at++;
            }

            if (at == first || (open && (at == text.Length || text[at] != ')')))
            {
                break;
            }

            // The (0) of +44 (0)20 belongs to the group before it.
            var end = at + (open ? 1 : 0);
            var isTrunk = open && hasPlus && count > 0 && at - first == 1 && text[first] == '0';
            at = end;
            if (!isTrunk)
            {
                groups[count++] = (first, end, separator);
            }

            separator = open ? ')' : '\0';
            if (at < text.Length && text[at] is ' ' or '\u00A0' or '-' or '.' or '/')
            {
                separator = text[at] == '\u00A0' ? ' ' : text[at];
                at++;
            }
            else if (!open && !(at < text.Length && text[at] == '('))
            {
                break;
            }
        }

        return new PhoneGroups(text, groups, count, hasPlus, hasParentheses);
    }

    /// <summary>Digits in a group.</summary>
    public int Length(int group) => LastDigit(group) - _groups[group].Start;

    /// <summary>What stands before a group.</summary>
    public char Separator(int group) => group < Count ? _groups[group].Separator : '\0';

    /// <summary>The end of the first groups in the text.</summary>
    public int End(int count) => _groups[count - 1].End;

    /// <summary>Digits in the first groups.</summary>
    public int Digits(int count)
    {
        var digits = 0;
        for (var i = 0; i < count; i++)
        {
            digits += Length(i);
        }

        return digits;
    }

    /// <summary>The digits of a group as a number.</summary>
    public long Value(int group)
    {
        long value = 0;
        foreach (var digit in _text.AsSpan(_groups[group].Start, Length(group)))
        {
            value = (value * 10) + digit - '0';
        }

        return value;
    }

    /// <summary>The first digits of all groups together.</summary>
    public string Leading(int digits)
    {
        var leading = "";
        for (var i = 0; i < Count && leading.Length < digits; i++)
        {
            leading += _text.Substring(_groups[i].Start, Math.Min(Length(i), digits - leading.Length));
        }

        return leading;
    }

    /// <summary>Whether the groups begin with these lengths, and no further one follows.</summary>
    public bool Is(params ReadOnlySpan<int> lengths)
    {
        // A blank and more digits after it are another number.
        if (Count < lengths.Length || (Count > lengths.Length && Separator(lengths.Length) != ' '))
        {
            return false;
        }

        for (var i = 0; i < lengths.Length; i++)
        {
            if (Length(i) != lengths[i])
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Whether the same separator stands before each of these groups.</summary>
    public bool IsUniform(int from, int to)
    {
        for (var i = from + 1; i < to; i++)
        {
            if (Separator(i) != Separator(from))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Whether groups from this one on have this many digits or more.</summary>
    public bool GroupsAreAtLeast(int digits, int from, int count)
    {
        for (var i = from; i < count; i++)
        {
            if (Length(i) < digits)
            {
                return false;
            }
        }

        return true;
    }

    private char First(int group) => _text[_groups[group].Start];

    private int LastDigit(int group) => _text[_groups[group].End - 1] == ')' ? _groups[group].End - 1 : _groups[group].End;
}

/// <summary>Country codes in use (ITU-T E.164).</summary>
internal static class CountryCodes
{
    private static readonly HashSet<string> OneOrTwo =
    [
        "1", "7", "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48", "49", "51", "52", "53", "54", "55",
        "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81", "82", "84", "86", "90", "91", "92", "93", "94", "95", "98",
    ];

    private static readonly HashSet<string> Three =
    [
        "21", "22", "23", "24", "25", "26", "29", "35", "37", "38", "42", "50", "59", "67", "68", "69", "80", "85", "87", "88", "96", "97", "99",
    ];

    /// <summary>Whether the digits begin with a code, and the first group holds all of it.</summary>
    public static bool Begins(PhoneGroups number)
    {
        var leading = number.HasPlus ? number.Leading(3) : number.Leading(5) is { Length: 5 } digits ? digits[2..] : "";
        if (leading.Length < 3)
        {
            return false;
        }

        var length = OneOrTwo.Contains(leading[..1]) ? 1 : OneOrTwo.Contains(leading[..2]) ? 2 : Three.Contains(leading[..2]) ? 3 : 0;
        var held = number.Length(0) - (number.HasPlus ? 0 : 2);
        return length > 0 && (held >= length || (!number.HasPlus && held == 0));
    }
}
