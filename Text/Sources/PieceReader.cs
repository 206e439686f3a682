using System.Runtime.CompilerServices;

namespace LlmPipeline.Text.Sources;

/// <summary>Reads units of work as pieces of bounded size. Safe for use from many threads.</summary>
/// <param name="options">How remote files are fetched.</param>
/// <param name="fields">Where the documents lie.</param>
/// <param name="onInvalid">What happens where a file cannot be read further.</param>
internal sealed class PieceReader(SourceOptions options, RecordFields fields, InvalidRecords onInvalid = InvalidRecords.Fail)
{
    private readonly RemoteContent _content = new(options);

    /// <summary>The pieces of a unit, in order.</summary>
    /// <exception cref="TextSourceException">A file cannot be read.</exception>
    public async IAsyncEnumerable<SourcePiece> ReadAsync(SourceUnit unit, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        foreach (var file in unit.Files)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var path = await _content.FetchAsync(file, cancellationToken);
            foreach (var piece in Guarded(file, Read(file, path, unit.Range ?? SourceRange.All)))
            {
                yield return piece;
            }
        }
    }

    private IEnumerable<SourcePiece> Read(SourceFile file, string path, SourceRange range) => file.Format switch
    {
        SourceFormat.PlainText => PlainText.Read(file, path, range),
        SourceFormat.JsonLines => JsonLines.Read(file, path, range, fields, onInvalid),
        SourceFormat.CommaSeparated or SourceFormat.TabSeparated => SeparatedValues.Read(file, path, fields),
        SourceFormat.Parquet => ParquetRows.Read(file, path, range, fields, onInvalid),
        _ => XmlDocumentation.Read(file, path),
    };

    // Where records cannot be told apart, what is left of the file is one record.
    private IEnumerable<SourcePiece> Guarded(SourceFile file, IEnumerable<SourcePiece> pieces)
    {
        using var enumerator = pieces.GetEnumerator();
        while (true)
        {
            SourcePiece piece;
            try
            {
                if (!enumerator.MoveNext())
                {
                    yield break;
                }

                piece = enumerator.Current;
            }
            catch (TextSourceException exception) when (onInvalid == InvalidRecords.Skip && exception.Problem == TextSourceProblem.Invalid)
            {
                piece = SourcePiece.OfDocuments(file, [], 0) with { Skipped = SkippedRecords.None.Add(exception.Message) };
            }

            yield return piece;
        }
    }
}
