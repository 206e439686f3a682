using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using System.Runtime.Versioning;
using System.Text;

namespace LlmPipeline.Models;

/// <summary>
/// Makes MKL, which is linked into libtorch, choose its kernels by instruction set alone: it asks
/// <c>mkl_serv_intel_cpu_true()</c>, and takes the AVX2 path where the answer is 0. A library that answers 1, loaded with
/// RTLD_GLOBAL before libtorch, comes first in symbol lookup.
/// </summary>
[SupportedOSPlatform("linux")]
internal static class MklDispatch
{
    private const int PageSize = 0x1000;

    /// <summary>Whether this processor has AVX-512 and is AMD's.</summary>
    public static bool Applies => Avx512F.IsSupported && X86Base.IsSupported && X86Base.CpuId(0, 0) is { Ebx: 0x68747541, Ecx: 0x444D4163, Edx: 0x69746E65 };

    /// <summary>Loads the library with the answers.</summary>
    /// <exception cref="DllNotFoundException">The system refused it.</exception>
    public static void TreatAsIntel() => GeneratedLibrary.Load("libmkldispatch.so", CreateLibrary("libmkldispatch.so", ["mkl_serv_intel_cpu_true", "mkl_serv_intel_cpu"]), LoadGlobally);

    /// <summary>Makes an x64 ELF library whose functions all return 1.</summary>
    /// <remarks>
    /// One page of headers, symbols and code, one page with the dynamic section, which some loaders write to. Its hash table has
    /// one bucket that chains all symbols.
    /// </remarks>
    internal static byte[] CreateLibrary(string name, string[] functions)
    {
        var strings = new MemoryStream();
        strings.WriteByte(0);
        var nameOffset = AddString(strings, name);
        var functionOffsets = functions.Select(f => AddString(strings, f)).ToArray();

        const int HeaderSize = 64, ProgramHeaderSize = 56, ProgramHeaders = 4, SymbolSize = 24;
        const int SymbolsAt = HeaderSize + (ProgramHeaders * ProgramHeaderSize);
        var symbolCount = functions.Length + 1;
        var hashAt = SymbolsAt + (symbolCount * SymbolSize);
        var stringsAt = hashAt + ((2 + 1 + symbolCount) * sizeof(int));
        var codeAt = (stringsAt + (int)strings.Length + 15) & ~15;

        // mov eax, 1; ret
        byte[] code = [0xB8, 1, 0, 0, 0, 0xC3];
        (long Tag, long Value)[] dynamic =
        [
            (14, nameOffset), (4, hashAt), (5, stringsAt), (6, SymbolsAt), (10, strings.Length), (11, SymbolSize), (0, 0), // SONAME, HASH, STRTAB, SYMTAB, STRSZ, SYMENT, NULL
        ];
        var dynamicSize = dynamic.Length * 16;

        var image = new MemoryStream();
        using var writer = new BinaryWriter(image);

        // ELF header: 64 bits, little-endian, System V, shared object, x86-64; no sections.
        writer.Write("\u007fELF\u0002\u0001\u0001"u8);
        writer.Write(new byte[9]);
        writer.Write((short)3);
        writer.Write((short)62);
        writer.Write(1);
        writer.Write(0L);
        writer.Write((long)HeaderSize);
        writer.Write(0L);
        writer.Write(0);
        foreach (var value in (ReadOnlySpan<short>)[HeaderSize, ProgramHeaderSize, ProgramHeaders, HeaderSize, 0, 0])
        {
            writer.Write(value);
        }

        const int Read = 4, Write = 2, Execute = 1;
        WriteProgramHeader(writer, 1, Read | Execute, 0, codeAt + code.Length, PageSize);
        WriteProgramHeader(writer, 1, Read | Write, PageSize, dynamicSize, PageSize);
        WriteProgramHeader(writer, 2, Read | Write, PageSize, dynamicSize, sizeof(long));
        WriteProgramHeader(writer, 0x6474e551, Read | Write, 0, 0, 16); // the stack need not be executable

        writer.Write(new byte[SymbolSize]);
        foreach (var offset in functionOffsets)
        {
            writer.Write(offset);
            writer.Write((byte)0x12); // global function
            writer.Write((byte)0);
            writer.Write((short)1); // any defined section
            writer.Write((long)codeAt);
            writer.Write((long)code.Length);
        }

        // Hash table: buckets, symbols, the first symbol, then for each symbol the next one.
        foreach (var value in (int[])[1, symbolCount, 1, 0, .. Enumerable.Range(2, functions.Length - 1), 0])
        {
            writer.Write(value);
        }

        writer.Write(strings.ToArray());
        writer.Write(new byte[codeAt - (int)image.Position]);
        writer.Write(code);
        writer.Write(new byte[PageSize - (int)image.Position]);
        foreach (var (tag, value) in dynamic)
        {
            writer.Write(tag);
            writer.Write(value);
        }

        writer.Flush();
        return image.ToArray();
    }

    private static void WriteProgramHeader(BinaryWriter writer, int type, int flags, long offset, long size, long alignment)
    {
        writer.Write(type);
        writer.Write(flags);
        foreach (var value in (ReadOnlySpan<long>)[offset, offset, offset, size, size, alignment])
        {
            writer.Write(value);
        }
    }

    private static int AddString(MemoryStream strings, string text)
    {
        var offset = (int)strings.Position;
        strings.Write(Encoding.ASCII.GetBytes(text));
        strings.WriteByte(0);
        return offset;
    }

    // NativeLibrary.Load keeps symbols local. dlopen is part of libc since glibc 2.34, of libdl before.
    private static unsafe nint LoadGlobally(string path)
    {
        const int Now = 2, Global = 0x100;
        var library = NativeLibrary.TryLoad("libc.so.6", out var libc) && NativeLibrary.TryGetExport(libc, "dlopen", out _) ? libc : NativeLibrary.Load("libdl.so.2");
        var open = (delegate* unmanaged[Cdecl]<byte*, int, nint>)NativeLibrary.GetExport(library, "dlopen");
        fixed (byte* text = Encoding.UTF8.GetBytes(path + '\0'))
        {
            var handle = open(text, Now | Global);
            return handle != 0 ? handle : throw new DllNotFoundException($"The system does not load {path}, which {TorchRuntimeOptions.Section}:{nameof(TorchRuntimeOptions.MklAvx512OnAmd)} needs.");
        }
    }
}
