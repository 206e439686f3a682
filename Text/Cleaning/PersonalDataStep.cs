using System.Buffers;
using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>Finds personal data, and replaces it where that is asked for. Work is linear: each start looks at a bounded number of characters.</summary>
internal sealed class PersonalDataStep(PersonalDataOptions options)
{
    private static readonly SearchValues<char> Starts = SearchValues.Create("0123456789+(@:");

    private readonly bool _email = Looks(options, PersonalDataKind.Email);
    private readonly bool _phone = Looks(options, PersonalDataKind.Phone);
    private readonly bool _ip = Looks(options, PersonalDataKind.Ip);

    /// <summary>The text, with marks instead of personal data when it is redacted; the same instance where nothing changes.</summary>
    public string Apply(string text, CleaningCounts counts)
    {
        // A mark can uncover data that was glued to what it replaced; it takes three passes at most.
        Span<long> found = stackalloc long[RedactionMarks.All.Length];
        for (var isNew = true; isNew;)
        {
            found.Clear();
            var replaced = Pass(text, found);
            isNew = replaced is not null;
            text = replaced ?? text;
            for (var kind = 0; kind < found.Length; kind++)
            {
                if (found[kind] > 0)
                {
                    counts.AddPersonalData((PersonalDataKind)kind, found[kind], options.Action == PersonalDataAction.Redact ? found[kind] : 0);
                }
            }
        }

        return text;
    }

    private static bool Looks(PersonalDataOptions options, PersonalDataKind kind) => options.Kinds.Count == 0 || options.Kinds.Contains(kind);

    // The redacted text, or null when nothing is to be replaced.
    private string? Pass(string text, Span<long> found)
    {
        StringBuilder? redacted = null;
        var kept = 0;
        for (var from = 0; ;)
        {
            var next = text.AsSpan(from).IndexOfAny(Starts);
            if (next < 0)
            {
                break;
            }

            var at = from + next;
            if (Match(text, at, kept) is not { } match)
            {
                from = at + 1;
                continue;
            }

            found[(int)match.Kind]++;
            if (options.Action == PersonalDataAction.Redact)
            {
                redacted ??= new StringBuilder(text.Length);
                redacted.Append(text, kept, match.Start - kept).Append(RedactionMarks.All[(int)match.Kind]);
            }

            from = kept = match.End;
        }

        return redacted?.Append(text, kept, text.Length - kept).ToString();
    }

    private PersonalDataMatch? Match(string text, int at, int floor)
    {
        if (text[at] == '@')
        {
            return _email ? EmailMatcher.Match(text, at, floor) : null;
        }

        return (_ip ? AddressMatcher.Match(text, at, floor) : null)
            ?? (_phone && text[at] != ':' ? PhoneMatcher.Match(text, at, floor) : null);
    }
}

/// <summary>Personal data in a text.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Start">Its first character.</param>
/// <param name="End">The character after it.</param>
internal readonly record struct PersonalDataMatch(PersonalDataKind Kind, int Start, int End);
