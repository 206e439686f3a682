using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using LlmPipeline.Storage;
using LlmPipeline.Text.Cleaning;
using ZstdSharp;

namespace LlmPipeline.Text.Building;

/// <summary>A cleaned document.</summary>
/// <param name="Utf8">Its text.</param>
/// <param name="CharacterCount">Code points.</param>
/// <param name="Signature">Finds duplicates and decides on the split.</param>
/// <param name="Label">Its class; null for none.</param>
internal sealed record CleanDocument(byte[] Utf8, int CharacterCount, DocumentSignature Signature, string? Label = null);

/// <summary>What is kept of a document besides its text.</summary>
/// <param name="Bytes">Length of its text in UTF-8.</param>
/// <param name="Characters">Code points.</param>
/// <param name="Signature">Finds duplicates and decides on the split.</param>
/// <param name="Label">Its class; null for none.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct DocumentEntry(int Bytes, int Characters, DocumentSignature Signature, string? Label = null);

/// <summary>
/// The cleaned documents of a unit, in source order: <c>read/{unit}.text</c>, the texts one after another, compressed (zstd), and
/// <c>read/{unit}.index</c>, an entry for each.
/// </summary>
internal static class DocumentFiles
{
    private const int CompressionLevel = 1;
    private const int BufferBytes = 1 << 16;

    // Bytes, characters, length of the signature, length of the label.
    private const int EntryBytes = 16;

    public static string TextOf(int unit) => string.Create(CultureInfo.InvariantCulture, $"read/{unit:D6}.text");

    public static string IndexOf(int unit) => string.Create(CultureInfo.InvariantCulture, $"read/{unit:D6}.index");

    /// <summary>The entries of a unit, in order.</summary>
    public static async IAsyncEnumerable<DocumentEntry> ReadEntriesAsync(
        JobFolder folder, int unit, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await using var stream = new BufferedStream(await folder.OpenReadAsync(IndexOf(unit), cancellationToken), BufferBytes);
        var bytes = new byte[EntryBytes + DocumentSignature.MaxByteLength];
        while (stream.ReadAtLeast(bytes.AsSpan(0, EntryBytes), EntryBytes, throwOnEndOfStream: false) == EntryBytes)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var signature = bytes.AsMemory(EntryBytes, BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(8)));
            stream.ReadExactly(signature.Span);
            yield return new DocumentEntry(
                BinaryPrimitives.ReadInt32LittleEndian(bytes), BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(4)), DocumentSignature.Read(signature.Span),
                ReadLabel(stream, BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(12))));
        }
    }

    private static string? ReadLabel(Stream stream, int length)
    {
        if (length == 0)
        {
            return null;
        }

        var utf8 = new byte[length];
        stream.ReadExactly(utf8);
        return Encoding.UTF8.GetString(utf8);
    }

    /// <summary>Opens the text for reading.</summary>
    public static async Task<Stream> OpenTextAsync(JobFolder folder, int unit, CancellationToken cancellationToken) =>
        new DecompressionStream(await folder.OpenReadAsync(TextOf(unit), cancellationToken), BufferBytes, leaveOpen: false);

    /// <summary>Writes both files of a unit.</summary>
    public sealed class Writer : IAsyncDisposable
    {
        private readonly BlobWriter _text;
        private readonly CompressionStream _compressed;
        private readonly BlobWriter _index;
        private readonly BufferedStream _entries;

        private Writer(BlobWriter text, BlobWriter index)
        {
            (_text, _index) = (text, index);
            _compressed = new CompressionStream(text.Stream, CompressionLevel, BufferBytes, leaveOpen: true);
            _entries = new BufferedStream(index.Stream, BufferBytes);
        }

        public static async Task<Writer> CreateAsync(JobFolder folder, int unit, CancellationToken cancellationToken)
        {
            var text = await folder.CreateAsync(TextOf(unit), cancellationToken);
            try
            {
                return new Writer(text, await folder.CreateAsync(IndexOf(unit), cancellationToken));
            }
            catch
            {
                await text.DisposeAsync();
                throw;
            }
        }

        public void Append(CleanDocument document)
        {
            _compressed.Write(document.Utf8);
            Span<byte> entry = stackalloc byte[EntryBytes + DocumentSignature.MaxByteLength];
            entry = entry[..(EntryBytes + document.Signature.ByteLength)];
            BinaryPrimitives.WriteInt32LittleEndian(entry, document.Utf8.Length);
            BinaryPrimitives.WriteInt32LittleEndian(entry[4..], document.CharacterCount);
            BinaryPrimitives.WriteInt32LittleEndian(entry[8..], document.Signature.ByteLength);
            var label = Encoding.UTF8.GetBytes(document.Label ?? "");
            BinaryPrimitives.WriteInt32LittleEndian(entry[12..], label.Length);
            document.Signature.WriteTo(entry[EntryBytes..]);
            _entries.Write(entry);
            _entries.Write(label);
        }

        public async Task CommitAsync(CancellationToken cancellationToken)
        {
            await _compressed.DisposeAsync();
            await _text.CommitAsync(cancellationToken);
            await _entries.FlushAsync(cancellationToken);
            await _index.CommitAsync(cancellationToken);
        }

        public async ValueTask DisposeAsync()
        {
            await _compressed.DisposeAsync();
            await _text.DisposeAsync();
            await _index.DisposeAsync();
        }
    }
}
