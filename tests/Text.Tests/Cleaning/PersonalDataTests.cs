using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Tests.Cleaning;

public sealed class PersonalDataTests
{
    [Theory]
    [InlineData("write to jane.doe+news@mail.example.co.uk.", "write to <EMAIL>.")]
    [InlineData("<a@b.de>, \"x_y%z@sub-domain.example.org\"", "<<EMAIL>>, \"<EMAIL>\"")]
    [InlineData("\u8bf7\u8054\u7cfbfoo@bar.com\u8c22\u8c22", "\u8bf7\u8054\u7cfb<EMAIL>\u8c22\u8c22")]
    [InlineData("mailto:me@example.xn--p1ai", "mailto:<EMAIL>")]
    [InlineData("a@b.com@c.com", "<EMAIL>@c.com")]
    [InlineData("ab@c.com12@d.org", "ab@<EMAIL>")]
    public void MailAddressesAreRedacted(string text, string expected) => Assert.Equal(expected, Redact(text));

    [Theory]
    [InlineData("@user and user@ and user@host")]
    [InlineData("npm i left-pad@1.3.0 and icon@2x.png")]
    [InlineData("a@.com a@b..com .@b.com a.@b.com a@-b.com a@b.c")]
    [InlineData("5 @ 3.50 each")]
    public void WhatIsNoMailAddressStays(string text) => Assert.Equal(text, Redact(text));

    [Theory]
    [InlineData("+14155552671")]
    [InlineData("+1 (415) 555-2671")]
    [InlineData("+1 415 555 2671")]
    [InlineData("+1-415-555-2671")]
    [InlineData("+44 (0)20 7946 0958")]
    [InlineData("+44 20 7946 0958")]
    [InlineData("+49 30 12345678")]
    [InlineData("+49-171-1234567")]
    [InlineData("+33 1 23 45 67 89")]
    [InlineData("+33123456789")]
    [InlineData("+86 138 0013 8000")]
    [InlineData("+91 98765 43210")]
    [InlineData("+353 86 123 4567")]
    [InlineData("0049 30 12345678")]
    [InlineData("(415) 555-2671")]
    [InlineData("415-555-2671")]
    [InlineData("415.555.2671")]
    [InlineData("1-800-555-2671")]
    [InlineData("020 7946 0958")]
    [InlineData("01632 960983")]
    [InlineData("07700 900123")]
    [InlineData("030 12345678")]
    [InlineData("030/12345678")]
    [InlineData("0176-12345678")]
    [InlineData("01 23 45 67 89")]
    [InlineData("01.23.45.67.89")]
    [InlineData("03-1234-5678")]
    [InlineData("090-1234-5678")]
    [InlineData("010-1234-5678")]
    [InlineData("138 0013 8000")]
    [InlineData("(11) 98765-4321")]
    [InlineData("(020) 7946 0958")]
    public void PhoneNumbersAreRedacted(string number)
    {
        foreach (var (before, after) in new[] { ("", ""), ("Call ", " now"), ("Tel: ", "."), ("(", ")"), ("\"", "\""), ("call ", ", or write") })
        {
            var redacted = Redact(before + number + after);
            Assert.Equal(before + "<PHONE>" + after, redacted);
        }
    }

    [Theory]
    [InlineData("2026-11-25 and 25.11.2026 and 25/11/2026 and 05-11-2026")]
    [InlineData("2026-11-25 10:30:00 and 01.02.2026 10:30 and 2026-11-25T10:30:00Z")]
    [InlineData("ISBN 978-0-306-40615-7 and 0-306-40615-2 and 9780306406157 and ISBN 978 3 16 148410 0")]
    [InlineData("version 10.0.19041.1 and 1.2.3 and v2.10.4-beta and 4.8.1.09037")]
    [InlineData("1,234,567.89 and 3.14159265358979 and 0.1234567890 and 1234567890")]
    [InlineData("4155552671 and 555-2671 and 123-45-6789")]
    [InlineData("415 555 2671 7 8 9")]
    [InlineData("1984-1985, pages 123-456, 1000-2000")]
    [InlineData("$415-555-2671 and id=415-555-2671 and a415-555-2671 and 415-555-26711 and 415-555-2671-99")]
    [InlineData("4111 1111 1111 1111 and DE89 3704 0044 0532 0130 00")]
    [InlineData("f(1) + 12345678 and a+12345678 and x^2 +3 -5")]
    [InlineData("RFC 2616, port 8080, 192.0.2.300, 12:34:56, 00:1A:2B:3C:4D:5E")]
    [InlineData("(1984) 123-4567 and (see 2026) 10-11")]
    [InlineData("0xDEADBEEF 0123456789ABCDEF 550e8400-e29b-41d4-a716-446655440000")]
    public void WhatIsNoPhoneNumberStays(string text) => Assert.Equal(text, Redact(text));

    [Theory]
    [InlineData("from 192.168.17.23 on", "from <IP> on")]
    [InlineData("10.0.0.12:8080, 8.8.4.44/24.", "<IP>:8080, <IP>/24.")]
    [InlineData("http://203.0.113.77/index", "http://<IP>/index")]
    [InlineData("2001:db8::1 and 2001:0db8:85a3:0000:0000:8a2e:0370:7334.", "<IP> and <IP>.")]
    [InlineData("[fe80::1ff:fe23:4567:890a%eth0]", "[<IP>%eth0]")]
    [InlineData("fe80::1, fd00::1", "<IP>, <IP>")]
    [InlineData("::ffff:192.0.2.128", "<IP>")]
    public void IpAddressesAreRedacted(string text, string expected) => Assert.Equal(expected, Redact(text));

    [Theory]
    [InlineData("1.2.3.4 is a section")]
    [InlineData("version 10.20.30.40, v10.20.30.40, Version=4.0.0.10, release 12.0.1.15")]
    [InlineData("4.10.0.0 and 10.0.19041.1 and 1.3.6.1.4.1.311 and 256.100.10.10 and 01.20.30.40")]
    [InlineData("10.20.30.40-beta1 and 10.20.30.40a and x10.20.30.40")]
    [InlineData("std::vector and a::b and dead::beef and :: and ::1 and Foo::bad")]
    [InlineData("12:34:56 and 00:1A:2B:3C:4D:5E and 1:2:3:4:5:6:7")]
    public void WhatIsNoIpAddressStays(string text) => Assert.Equal(text, Redact(text));

    [Fact]
    public void OnlyTheWantedKindsAreLookedFor()
    {
        const string text = "a@b.com 192.168.17.23 +14155552671";
        Assert.Equal("a@b.com <IP> +14155552671", Redact(text, PersonalDataKind.Ip));
        Assert.Equal("<EMAIL> 192.168.17.23 <PHONE>", Redact(text, PersonalDataKind.Email, PersonalDataKind.Phone));
    }

    [Fact]
    public void FindingCountsWithoutChanging()
    {
        const string text = "a@b.com c@d.org 192.168.17.23 +14155552671";
        foreach (var action in new[] { PersonalDataAction.Find, PersonalDataAction.Redact })
        {
            var counts = new CleaningCounts();
            var cleaned = new DocumentCleaner(new CleaningOptions { PersonalData = new PersonalDataOptions { Action = action } }).Clean(text, counts).Text;
            var isRedacted = action == PersonalDataAction.Redact;
            Assert.Equal(isRedacted ? "<EMAIL> <EMAIL> <IP> <PHONE>" : text, cleaned);
            Assert.Equal(new PersonalDataCounts(2, isRedacted ? 2 : 0), counts.PersonalData["email"]);
            Assert.Equal(new PersonalDataCounts(1, isRedacted ? 1 : 0), counts.PersonalData["ip"]);
            Assert.Equal(new PersonalDataCounts(1, isRedacted ? 1 : 0), counts.PersonalData["phone"]);
            Assert.Equal(isRedacted, counts.Steps.ContainsKey("personal_data"));
        }
    }

    [Fact]
    public void MarksOutliveTheOtherSteps()
    {
        var options = new CleaningOptions
        {
            Markup = MarkupMode.Strip,
            LetterCase = LetterCaseMode.Lower,
            Punctuation = PunctuationMode.Remove,
            Numbers = NumberMode.Remove,
            PersonalData = new PersonalDataOptions { Action = PersonalDataAction.Redact },
        };
        Assert.Equal("mail <EMAIL> or <PHONE> ", DocumentCleanerTests.Clean("<p>Mail: Jane.Doe@Example.COM or +1 415-555-2671 (2026)!", options));
    }

    [Theory]
    [InlineData("a@")]
    [InlineData("@")]
    [InlineData("a@b.")]
    [InlineData("a.b@c.d")]
    [InlineData("+1")]
    [InlineData("1.1.1.1.")]
    [InlineData("a::")]
    [InlineData("::")]
    [InlineData("12 ")]
    [InlineData("(12)")]
    [InlineData("01 23 45 67 89 ")]
    [InlineData("+14155552671")]
    [InlineData("+14155552671x")]
    public void HostileTextTakesLinearTime(string part)
    {
        var text = string.Concat(Enumerable.Repeat(part, 2_000_000 / part.Length));
        var watch = System.Diagnostics.Stopwatch.StartNew();
        Redact(text);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"'{part}' repeated took {watch.Elapsed}.");
    }

    private static string Redact(string text, params PersonalDataKind[] kinds) =>
        new PersonalDataStep(new PersonalDataOptions { Action = PersonalDataAction.Redact, Kinds = kinds }).Apply(text, new CleaningCounts());
}
