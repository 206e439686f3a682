using System.Text;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text;

/// <summary>Ids of the documents in a folder of this machine, each followed by the end-of-text id; in memory, 4 bytes an id.</summary>
public sealed class FolderTokens : TokenSplit
{
    private const long UnitBytes = 16 << 20;
    private const string TextField = "text";

    private readonly int[] _ids;

    private FolderTokens(int[] ids, long byteCount, long documentCount) => (_ids, ByteCount, DocumentCount) = (ids, byteCount, documentCount);

    /// <inheritdoc/>
    public override long TokenCount => _ids.Length;

    /// <inheritdoc/>
    public override long ByteCount { get; }

    /// <inheritdoc/>
    public override long DocumentCount { get; }

    /// <summary>Reads the files of a folder as they are, neither cleaned nor deduplicated, in ordinal order of their paths.</summary>
    /// <param name="folder">A local folder; see <see cref="SourceFiles.FindAsync"/> for what it may hold. Of records, the property <c>text</c> counts.</param>
    /// <param name="tokenizer">Makes the ids.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="TextSourceException">The folder does not exist, has no file of a known format, or one cannot be read.</exception>
    public static async Task<FolderTokens> ReadAsync(string folder, ITokenizer tokenizer, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (!Directory.Exists(folder))
        {
            throw new TextSourceException(TextSourceProblem.NotFound, $"'{folder}' is not a folder of {Environment.MachineName}.");
        }

        var options = new SourceOptions();
        var reader = new PieceReader(options, TextField);
        var parser = new PieceParser(TextField);
        var ids = new List<int>();
        var (bytes, documents) = (0L, 0L);
        foreach (var unit in SourceUnits.Plan(await SourceFiles.FindAsync([folder], options, cancellationToken), UnitBytes))
        {
            await foreach (var piece in reader.ReadAsync(unit, cancellationToken))
            {
                foreach (var document in parser.Parse(piece).Documents)
                {
                    var utf8 = Encoding.UTF8.GetBytes(document.Text);
                    tokenizer.Encode(utf8, ids);
                    ids.Add(tokenizer.EndOfTextId);
                    bytes += utf8.Length;
                    documents++;
                }
            }
        }

        return new FolderTokens([.. ids], bytes, documents);
    }

    /// <inheritdoc/>
    public override void Read(long position, Span<int> ids) => _ids.AsSpan((int)position, ids.Length).CopyTo(ids);
}
