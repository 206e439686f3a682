namespace LlmPipeline.Text.Tests.NGrams;

/// <summary>A split in memory.</summary>
internal sealed class ArraySplit(int[] ids) : TokenSplit
{
    public override long TokenCount => ids.Length;

    public override long ByteCount => ids.Length;

    public override long DocumentCount => 1;

    public override void Read(long position, Span<int> destination) => ids.AsSpan((int)position, destination.Length).CopyTo(destination);
}
