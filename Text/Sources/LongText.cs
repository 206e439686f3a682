using System.Text;

namespace LlmPipeline.Text.Sources;

/// <summary>Documents of a record whose text is in memory.</summary>
internal static class LongText
{
    /// <summary>Adds a text as a document, or as several where it is longer than one may be (<see cref="TextCut"/>).</summary>
    public static void AddTo(List<RawDocument> documents, string text, string? label = null)
    {
        if (text.Length <= TextCut.MaxBytes / 3 || Encoding.UTF8.GetByteCount(text) <= TextCut.MaxBytes)
        {
            documents.Add(new RawDocument(text, null, label));
            return;
        }

        var cutter = new TextCutter();
        cutter.Append(Encoding.UTF8.GetBytes(text));
        cutter.Complete();
        while (cutter.TryTake(out var document))
        {
            documents.Add(new RawDocument(Encoding.UTF8.GetString(document.Span), null, label));
        }
    }
}
