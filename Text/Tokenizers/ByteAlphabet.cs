using System.Text;

namespace LlmPipeline.Text;

/// <summary>GPT-2's printable characters for the 256 bytes, in which byte-level vocabularies are written (a space is U+0120).</summary>
internal static class ByteAlphabet
{
    /// <summary>The bytes in the order of GPT-2's first 256 ids: those that stand for themselves, then the others.</summary>
    public static ReadOnlySpan<byte> IdOrder => Order;

    private static byte[] Order { get; } =
        [.. Enumerable.Range(0, 256).Where(IsPrintable).Concat(Enumerable.Range(0, 256).Where(b => !IsPrintable(b))).Select(b => (byte)b)];

    private static char[] CharOfByte { get; } = MakeChars();

    private static int[] ByteOfChar { get; } = MakeBytes();

    /// <summary>Writes bytes in the alphabet.</summary>
    public static string Write(ReadOnlySpan<byte> bytes)
    {
        var text = new StringBuilder(bytes.Length);
        foreach (var b in bytes)
        {
            text.Append(CharOfByte[b]);
        }

        return text.ToString();
    }

    /// <summary>Reads a text of the alphabet; null when it has a character of none of the bytes.</summary>
    public static byte[]? TryRead(string text)
    {
        var bytes = new byte[text.Length];
        for (var i = 0; i < text.Length; i++)
        {
            if (text[i] >= ByteOfChar.Length || ByteOfChar[text[i]] is var value && value < 0)
            {
                return null;
            }

            bytes[i] = (byte)value;
        }

        return bytes;
    }

    private static bool IsPrintable(int b) => b is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);

    private static char[] MakeChars()
    {
        var chars = new char[256];
        var next = 256;
        for (var b = 0; b < 256; b++)
        {
            chars[b] = (char)(IsPrintable(b) ? b : next++);
        }

        return chars;
    }

    private static int[] MakeBytes()
    {
        var bytes = new int[CharOfByte.Max() + 1];
        Array.Fill(bytes, -1);
        for (var b = 0; b < 256; b++)
        {
            bytes[CharOfByte[b]] = b;
        }

        return bytes;
    }
}
