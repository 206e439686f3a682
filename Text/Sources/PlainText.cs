namespace LlmPipeline.Text.Sources;

/// <summary>Reads plain text: a file is a document, a big one several.</summary>
internal static class PlainText
{
    /// <summary>A piece a document.</summary>
    /// <param name="file">What is read.</param>
    /// <param name="path">Where its content lies.</param>
    /// <param name="range">Whole steps of <see cref="TextCut"/>.</param>
    public static IEnumerable<SourcePiece> Read(SourceFile file, string path, SourceRange range)
    {
        using var stream = SourceStream.Open(file, path);
        var firstStep = range.Start / TextCut.StepBytes;
        var endStep = range.End == long.MaxValue ? long.MaxValue : range.End / TextCut.StepBytes;
        if (firstStep > 0)
        {
            stream.Position = firstStep * TextCut.StepBytes;
        }

        var cutter = new TextCutter(firstStep, file.Compressed ? 0 : file.Length - (firstStep * TextCut.StepBytes));
        var diskRead = stream.DiskPosition;
        while (cutter.NextStep <= endStep && TryRead(stream, cutter, out var document))
        {
            var diskBytes = file.Compressed ? stream.DiskPosition - diskRead : document.Length;
            diskRead = stream.DiskPosition;
            yield return new SourcePiece(file, document, cutter.Position - document.Length, 0, diskBytes);
        }
    }

    private static bool TryRead(SourceStream stream, TextCutter cutter, out ReadOnlyMemory<byte> document)
    {
        while (!cutter.TryTake(out document))
        {
            var space = cutter.Space;
            var read = stream.Fill(space);
            cutter.Advance(read);
            if (read < space.Length)
            {
                cutter.Complete();
                return cutter.TryTake(out document);
            }
        }

        return true;
    }
}
