namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// Phone numbers. International: <c>+</c> or <c>00</c>, a country code in use, 8 to 15 digits (E.164). National: North American with an
/// area code and separators; with a leading 0 and 10 or 11 digits in groups, or 12 in two (most of Europe, Asia and Oceania); Chinese mobile and
/// Brazilian numbers. Plain runs of digits, dates, ISBNs and version numbers are none.
/// </summary>
internal static class PhoneMatcher
{
    private const int MinDigits = 8;
    private const int MaxDigits = 15;

    /// <summary>The number that begins at a digit, <c>+</c> or <c>(</c>, or null.</summary>
    /// <param name="text">The text.</param>
    /// <param name="start">Where it would begin.</param>
    /// <param name="floor">Where the data found before it ends.</param>
    public static PersonalDataMatch? Match(string text, int start, int floor)
    {
        if (start > floor && (char.IsLetterOrDigit(text[start - 1]) || text[start - 1] is '_' or '+' or '#' or '$' or '.' or '-' or '/' or ',' or '=' or '&' or ')' or '\u20AC' or '\u00A3'))
        {
            return null;
        }

        // Inside a longer row of digits, such as the number of an account.
        if (start > floor + 1 && text[start] == '0' && text[start - 1] == ' ' && char.IsAsciiDigit(text[start - 2]))
        {
            return null;
        }

        var number = PhoneGroups.Read(text, start);
        var end = number.IsInternational ? International(number) : National(number);
        return end < 0 || !IsBoundary(text, end) ? null : new PersonalDataMatch(PersonalDataKind.Phone, start, end);
    }

    // The longest run of groups with the right number of digits.
    private static int International(PhoneGroups number)
    {
        var count = number.Count;
        while (count > 0 && number.Digits(count) > MaxDigits)
        {
            count--;
        }

        var enough = count > 0 && number.Digits(count) >= (number.HasPlus ? MinDigits : MinDigits + 2) && (number.HasPlus || count > 1);
        return enough && CountryCodes.Begins(number) && number.GroupsAreAtLeast(2, 2, count) ? number.End(count) : -1;
    }

    private static int National(PhoneGroups number)
    {
        var separator = number.Separator(1);
        if (number.Is(1, 3, 3, 4) && number.Value(0) == 1)
        {
            return NorthAmerican(number, 1) && separator != ' ' && number.IsUniform(1, 4) ? number.End(4) : -1;
        }

        if (number.Is(3, 3, 4) && NorthAmerican(number, 0) && (number.HasParentheses || (separator is '-' or '.' && number.IsUniform(1, 3))))
        {
            return number.End(3);
        }

        if (number.HasParentheses && number.Is(2, 5, 4) && number.Separator(2) == '-')
        {
            return number.End(3);
        }

        if (number.Is(3, 4, 4) && number.Value(0) is >= 130 and <= 199 && number.IsUniform(1, 3) && separator is ' ' or '-')
        {
            return number.End(3);
        }

        return number.StartsWithTrunkZero ? TrunkZero(number) : -1;
    }

    private static bool NorthAmerican(PhoneGroups number, int area) => number.Value(area) >= 200 && number.Value(area + 1) >= 200;

    private static int TrunkZero(PhoneGroups number)
    {
        for (var count = Math.Min(number.Count, 5); count >= 2; count--)
        {
            var digits = number.Digits(count);
            if (!(digits is 10 or 11 || (digits == 12 && count == 2)) || !number.GroupsAreAtLeast(2, 1, count))
            {
                continue;
            }

            // 01.23.45.67.89, but no number with a point in it.
            var separator = number.Separator(1);
            var isFrench = count == 5 && number.Is(2, 2, 2, 2, 2);
            var isUniform = number.IsUniform(number.HasParentheses ? 2 : 1, count);
            var isPlausible = separator switch
            {
                '.' => isFrench,
                '/' => count == 2 || number.HasParentheses,
                _ => isFrench || count <= 4,
            };
            if (isUniform && isPlausible && (isFrench || number.Length(0) is >= 2 and <= 5))
            {
                return number.End(count);
            }
        }

        return -1;
    }

    private static bool IsBoundary(string text, int end)
    {
        if (end == text.Length)
        {
            return true;
        }

        var next = text[end];
        if (char.IsLetterOrDigit(next) || next is '_' or '%' or '@')
        {
            return false;
        }

        return next is not ('-' or '.' or '/' or ',' or ':') || end + 1 == text.Length || !char.IsLetterOrDigit(text[end + 1]);
    }
}
