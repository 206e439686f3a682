using System.Runtime.InteropServices;

namespace LlmPipeline.Text.Cleaning;

/// <summary>MinHash signatures by number of their document: in memory first, in a temporary file from some number on.</summary>
internal sealed class SignatureStore(string folder, long memoryBytes) : IDisposable
{
    private const int SignatureBytes = DocumentSigner.Permutations * sizeof(ushort);
    private const int PerBlock = 256;

    private readonly List<ushort[]> _blocks = [];
    private readonly long _memoryCapacity = memoryBytes / SignatureBytes / PerBlock * PerBlock;
    private long _count;
    private FileStream? _file;

    /// <summary>Whether signatures lie on disk.</summary>
    public bool IsSpilled => _file is not null;

    /// <summary>Appends a signature and gives its number.</summary>
    public void Add(ReadOnlySpan<ushort> signature)
    {
        if (_count < _memoryCapacity)
        {
            var within = (int)(_count % PerBlock);
            if (within == 0)
            {
                _blocks.Add(new ushort[PerBlock * DocumentSigner.Permutations]);
            }

            signature.CopyTo(_blocks[^1].AsSpan(within * DocumentSigner.Permutations));
        }
        else
        {
            _file ??= ScratchFile.Create(folder);
            _file.Write(MemoryMarshal.AsBytes(signature));
        }

        _count++;
    }

    /// <summary>Makes everything appended readable.</summary>
    public void Flush() => _file?.Flush();

    public void Read(long number, Span<ushort> signature)
    {
        if (number < _memoryCapacity)
        {
            var within = (int)(number % PerBlock);
            _blocks[(int)(number / PerBlock)].AsSpan(within * DocumentSigner.Permutations, DocumentSigner.Permutations).CopyTo(signature);
        }
        else
        {
            ScratchFile.ReadExactly(_file!, MemoryMarshal.AsBytes(signature), (number - _memoryCapacity) * SignatureBytes);
        }
    }

    public void Dispose() => _file?.Dispose();
}
