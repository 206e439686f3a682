using System.Buffers;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>Names of special tokens.</summary>
public static class SpecialTokens
{
    /// <summary>Follows every document.</summary>
    public const string EndOfText = "<|endoftext|>";

    /// <summary>Stands for a character that the vocabulary lacks.</summary>
    public const string Unknown = "<unk>";
}

internal static class TokenBytes
{
    /// <summary>Joins the bytes of ids and reads them as UTF-8.</summary>
    public static string Decode(ITokenizer tokenizer, ReadOnlySpan<int> ids)
    {
        var bytes = new ArrayBufferWriter<byte>(Math.Max(16, ids.Length * 4));
        foreach (var id in ids)
        {
            bytes.Write(tokenizer.BytesOf(id));
        }

        return Encoding.UTF8.GetString(bytes.WrittenSpan);
    }
}
