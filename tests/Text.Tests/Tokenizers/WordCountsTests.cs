using System.Text;

namespace LlmPipeline.Text.Tests.Tokenizers;

public sealed class WordCountsTests
{
    [Fact]
    public void WordsAreCounted()
    {
        var counts = TestTexts.Count(WordSplitter.Default, "to be or not to be", "be");
        Assert.Equal(new SortedDictionary<string, long> { [" be"] = 2, [" not"] = 1, [" or"] = 1, [" to"] = 1, ["be"] = 1, ["to"] = 1 }, Words(counts));
        Assert.Equal((6, 7, 20L), (counts.DistinctCount, counts.TotalCount, counts.TotalBytes));
    }

    [Fact]
    public void ManyWordsOfAllLengthsAreKeptApart()
    {
        var (counts, expected, random) = (new WordCounts(), new Dictionary<string, long>(StringComparer.Ordinal), new Random(1));
        for (var n = 0; n < 200_000; n++)
        {
            var word = new string((char)('a' + random.Next(3)), random.Next(1, random.Next(2, 40))) + (random.Next(3) == 0 ? $"{random.Next(50_000)}" : "");
            word = n % 50_000 == 0 ? new string('x', 400_000 + n) : word;
            counts.AddWord(Encoding.UTF8.GetBytes(word), 1 + (n % 3));
            expected[word] = expected.GetValueOrDefault(word) + 1 + (n % 3);
        }

        Assert.Equal(expected.Count, counts.DistinctCount);
        Assert.Equal(expected.OrderBy(w => w.Key, StringComparer.Ordinal), Words(counts));
    }

    [Fact]
    public void InvalidUtf8CountsAsTheReplacementCharacter()
    {
        var counts = new WordCounts();
        counts.Add([(byte)'a', 0xFF, (byte)'b'], WordSplitter.Gpt2);
        Assert.Equal(["a", "b", "\ufffd"], Words(counts).Keys);
    }

    [Fact]
    public void TheSameCountsGiveTheSameBytesInAnyOrderAndComeBack()
    {
        var texts = TestTexts.Languages.Take(6).Select(l => l.Text).ToList();
        var bytes = Written(TestTexts.Count(WordSplitter.Default, texts));
        var merged = new WordCounts();
        foreach (var text in Enumerable.Reverse(texts))
        {
            merged.Merge(WordCounts.Read(new MemoryStream(Written(TestTexts.Count(WordSplitter.Default, text)))));
        }

        Assert.Equal(bytes, Written(merged));
        Assert.Equal(Words(merged), Words(WordCounts.Read(new MemoryStream(bytes))));
        Assert.Equal(0, WordCounts.Read(new MemoryStream(Written(new WordCounts()))).DistinctCount);
    }

    [Fact]
    public void WeightsMultiplyAndRoundAndNeverLoseAWord()
    {
        var (part, total) = (new WordCounts(), new WordCounts());
        part.AddWord("a"u8, 10);
        part.AddWord("b"u8, 1);
        total.AddWord("a"u8, 1);
        total.Merge(part, 0.25);
        Assert.Equal(new SortedDictionary<string, long> { ["a"] = 3, ["b"] = 1 }, Words(total));
        Assert.Throws<ArgumentOutOfRangeException>(() => total.Merge(part, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => total.Merge(part, double.NaN));
        Assert.Throws<ArgumentOutOfRangeException>(() => total.AddWord("a"u8, 0));
    }

    [Fact]
    public void EveryTruncationIsRefusedWithTheOffset()
    {
        var bytes = Written(TestTexts.Count(WordSplitter.Default, "the then them a b"));
        for (var length = 0; length < bytes.Length; length++)
        {
            var error = Assert.Throws<InvalidDataException>(() => WordCounts.Read(new MemoryStream(bytes[..length])));
            Assert.Contains($"at offset {length}.", error.Message, StringComparison.Ordinal);
        }

        Assert.Contains("something follows", Assert.Throws<InvalidDataException>(() => WordCounts.Read(new MemoryStream([.. bytes, 0]))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FlippedBitsAreRefusedOrGiveOtherCounts()
    {
        var bytes = Written(TestTexts.Count(WordSplitter.Default, "the then them a b the"));
        for (var bit = 0; bit < 8 * bytes.Length; bit++)
        {
            var damaged = (byte[])bytes.Clone();
            damaged[bit / 8] ^= (byte)(1 << (bit % 8));
            try
            {
                Assert.NotEqual(bytes, Written(WordCounts.Read(new MemoryStream(damaged))));
            }
            catch (InvalidDataException)
            {
                // What most of them give.
            }
        }
    }

    [Fact]
    public void HugeNumbersFailAtTheEndOfTheFileAndNotForWantOfMemory()
    {
        byte[] hugeWord = [.. "wcounts1"u8, 1, 0, 0xFF, 0xFF, 0xFF, 0xFF, 3, (byte)'a'];
        Assert.Contains("ends within a word", Assert.Throws<InvalidDataException>(() => WordCounts.Read(new MemoryStream(hugeWord))).Message, StringComparison.Ordinal);
        byte[] hugeCount = [.. "wcounts1"u8, 1, 0, 2, (byte)'a', (byte)'b', 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F];
        Assert.Contains("their sum too large", Assert.Throws<InvalidDataException>(() => WordCounts.Read(new MemoryStream(hugeCount))).Message, StringComparison.Ordinal);
    }

    private static byte[] Written(WordCounts counts)
    {
        var stream = new MemoryStream();
        counts.Write(stream);
        return stream.ToArray();
    }

    private static SortedDictionary<string, long> Words(WordCounts counts) => new(
        Enumerable.Range(0, counts.DistinctCount).ToDictionary(i => Encoding.UTF8.GetString(counts.WordAt(i)), counts.CountAt), StringComparer.Ordinal);
}
