using LlmPipeline.Fakes;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Text.Tests.NGrams;

public sealed class NgramCountsTests
{
    [Theory]
    [InlineData(3)]
    [InlineData(70_000)]
    public void CountsAreThoseOfADictionaryWhateverTheTextAndTheVocabulary(int vocabulary)
    {
        var random = new Random(5);
        int[] ids = [.. Enumerable.Range(0, 30_000).Select(i => (int)(random.NextDouble() * random.NextDouble() * vocabulary))];
        const int order = 6;
        var counts = NgramCounts.Of(new ArraySplit(ids), vocabulary, 0, order);
        var expected = new Dictionary<string, int>();
        int[] text = [0, .. ids];
        for (var i = 0; i < text.Length; i++)
        {
            for (var n = 1; n <= order && i + n <= text.Length; n++)
            {
                var key = string.Join(' ', text[i..(i + n)]);
                expected[key] = expected.GetValueOrDefault(key) + 1;
                if (n > 1 && text[i + n - 1] == 0)
                {
                    break;
                }
            }
        }

        expected["0"]--;
        var found = new Dictionary<string, int>();
        Walk(0, "");
        Assert.Equal(expected.OrderBy(p => p.Key), found.OrderBy(p => p.Key));
        Assert.Equal(expected.Count, counts.NgramCount);

        void Walk(int node, string prefix)
        {
            for (var child = node < counts.Trie.ContextCount ? counts.Trie.FirstChild[node] : 0; node < counts.Trie.ContextCount && child < counts.Trie.FirstChild[node + 1]; child++)
            {
                var key = prefix + (prefix.Length > 0 ? " " : "") + counts.Trie.Ids[child];
                found[key] = counts.Counts[child];
                Walk(child, key);
            }
        }
    }

    [Fact]
    public void WhatIsWrittenIsReadAgainByteForByte()
    {
        var counts = Sample();
        var bytes = Written(counts);
        using var folder = new TemporaryFolder();
        var read = NgramCounts.Read(Save(folder, bytes), TestContext.Current.CancellationToken);
        Assert.Equal(bytes, Written(read));
        Assert.Equal(counts.Counts, read.Counts);
        Assert.Equal(counts.Trie.Suffixes, read.Trie.Suffixes);
        Assert.InRange(bytes.Length, 0, 6 * counts.NgramCount);
    }

    [Fact]
    public void AFileThatIsCutAnywhereIsRefused()
    {
        var bytes = Written(Sample());
        using var folder = new TemporaryFolder();
        for (var length = 0; length < bytes.Length; length += length < 64 ? 1 : 97)
        {
            var error = Assert.Throws<InvalidDataException>(() => NgramCounts.Read(Save(folder, bytes[..length]), TestContext.Current.CancellationToken));
            Assert.Contains("counts.bin", error.Message, StringComparison.Ordinal);
        }

        Assert.Contains("33 bytes follow", Assert.Throws<InvalidDataException>(() =>
            NgramCounts.Read(Save(folder, [.. bytes, 0]), TestContext.Current.CancellationToken)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFileWithAnyBitFlippedIsRefused()
    {
        var bytes = Written(Sample());
        using var folder = new TemporaryFolder();
        var random = new Random(9);
        for (var i = 0; i < 400; i++)
        {
            byte[] changed = [.. bytes];
            changed[i < 60 ? i : random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
            Assert.Throws<InvalidDataException>(() => NgramCounts.Read(Save(folder, changed), TestContext.Current.CancellationToken));
        }
    }

    [Theory]
    [InlineData("is there without its ending", 2, 5, 0, 2, 1, /* 1-grams 0 and 3 */ 2, 0, 0, 2, 1, /* 0 4: but there is no 4 */ 1, 4, 1, 0)]
    [InlineData("the end-of-text id is missing", 1, 5, 0, 1, /* 1-gram 3 */ 1, 3, 1)]
    [InlineData("an n-gram has a count of 0", 1, 5, 0, 2, 2, 0, 0, 2, 0)]
    [InlineData("no token was counted", 1, 5, 0, 1, 1, 0, 0)]
    [InlineData("an id is not below 5", 1, 5, 0, 2, 2, 0, 0, 4, 1)]
    [InlineData("there are 1 1-grams, but 2 were announced", 1, 5, 0, 2, 1, 0, 1)]
    [InlineData("the order is 17", 17, 5, 0, 1)]
    [InlineData("the end-of-text id is 5", 1, 5, 5, 1)]
    [InlineData("the number of 1-grams is 6", 1, 5, 0, 6)]
    public void AFileThatIsMadeUpIsRefused(string message, params int[] numbers)
    {
        // Header: order, vocabulary, end of text, n-grams by order; then small numbers of one byte, and a right checksum.
        var header = 3 + (numbers[0] == 2 ? 2 : 1);
        byte[] body = [.. "ngrams/1"u8, .. numbers[..header].SelectMany(BitConverter.GetBytes), .. numbers[header..].Select(n => (byte)n)];
        byte[] file = [.. body, .. System.Security.Cryptography.SHA256.HashData(body)];
        using var folder = new TemporaryFolder();
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => NgramCounts.Read(Save(folder, file), TestContext.Current.CancellationToken)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AHugeAnnouncedNumberTakesNoMemory()
    {
        byte[] body = [.. "ngrams/1"u8, .. new[] { 2, 1 << 24, 0, 1, int.MaxValue - 10 }.SelectMany(BitConverter.GetBytes), .. new byte[100]];
        using var folder = new TemporaryFolder();
        var before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<InvalidDataException>(() => NgramCounts.Read(Save(folder, body), TestContext.Current.CancellationToken));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4 << 20);
    }

    private static NgramCounts Sample()
    {
        var random = new Random(4);
        return NgramCounts.Of(new ArraySplit([.. Enumerable.Range(0, 3000).Select(_ => random.Next(1 + random.Next(40)))]), 300, 0, 4);
    }

    private static byte[] Written(NgramCounts counts)
    {
        var stream = new MemoryStream();
        counts.Write(stream);
        return stream.ToArray();
    }

    private static string Save(TemporaryFolder folder, byte[] bytes)
    {
        var path = Path.Combine(folder.Path, "counts.bin");
        File.WriteAllBytes(path, bytes);
        return path;
    }
}
