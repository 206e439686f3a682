using System.Text;
using LlmPipeline.Fakes;
using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Tests.Cleaning;

public sealed class LeakCheckTests : IDisposable
{
    private const string Text = "The quick brown fox jumps over the lazy dog while seven other animals of the forest look on and wonder what it is about";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void DocumentsThatSplitsShareAreCounted()
    {
        (string Text, byte Split)[] documents = [(Text, 0), (Text, 0), (Text, 1), (Text + " now", 2), ("an own text of this split, with some words in it", 1), ("alone", 2)];
        foreach (var near in Enum.GetValues<NearDuplicateMode>())
        {
            var options = new DuplicateOptions { Near = near };
            var signer = new DocumentSigner(options);
            using var check = new LeakCheck(options, _folder.Path);
            foreach (var (text, split) in documents)
            {
                check.Add(signer.Sign(Encoding.UTF8.GetBytes(text)), split);
            }

            Assert.Equal(new SplitLeaks(1, near == NearDuplicateMode.Off ? null : 2), check.Complete());
        }
    }

    [Fact]
    public void OverlapIsTheShareOfDifferentNgramsThatTrainHas()
    {
        var words = Enumerable.Range(0, 100).Select(i => $"w{i}").ToArray();
        var overlap = new NgramOverlap();
        Add(overlap, words, 0);

        // 28 n-grams of train, 12 across the seam, 18 new ones; twice.
        string[] validation = [.. words[..40], .. Enumerable.Range(0, 30).Select(i => $"n{i}")];
        Add(overlap, validation, 1);
        Add(overlap, validation, 1);
        Add(overlap, words[..12], 2);
        Assert.Equal(new NgramShare(58, 28, 1), overlap.Share(1));
        Assert.Equal(28.0 / 58, overlap.Share(1).Share, 12);
        Assert.Equal((new NgramShare(0, 0, 1), 0.0), (overlap.Share(2), overlap.Share(2).Share));
    }

    [Fact]
    public void SampledOverlapIsNearTheTruthAndDoesNotDependOnTheOrderOfMerging()
    {
        // 1.5 million n-grams in train; a third of validation's come from there.
        var parts = new List<NgramOverlap>();
        for (var part = 0; part < 6; part++)
        {
            var overlap = new NgramOverlap();
            var random = new Random(part);
            var words = Enumerable.Range(0, 250_000).Select(_ => $"w{random.Next(100_000)}").ToArray();
            Add(overlap, words, 0);
            Add(overlap, words[..20_000], 1);
            Add(overlap, [.. Enumerable.Range(0, 40_000).Select(_ => $"v{random.Next(100_000)}")], 1);
            parts.Add(overlap);
        }

        var forward = parts.Aggregate(new NgramOverlap(), Merge);
        var backward = parts.AsEnumerable().Reverse().Aggregate(new NgramOverlap(), Merge);
        Assert.Equal(Bytes(forward), Bytes(backward));
        var read = NgramOverlap.Read(new MemoryStream(Bytes(forward)));
        Assert.Equal(Bytes(forward), Bytes(read));
        var share = read.Share(1);
        Assert.Equal(8, share.SampledOneIn);
        Assert.InRange(share.Ngrams, 43_000, 47_000);
        Assert.InRange(share.Share, 0.32, 0.345);
    }

    [Fact]
    public void BrokenSamplesAreRefused() =>
        Assert.Throws<InvalidDataException>(() => NgramOverlap.Read(new MemoryStream([99, 255, 255, 255, 255])));

    private static NgramOverlap Merge(NgramOverlap all, NgramOverlap part)
    {
        all.Merge(part);
        return all;
    }

    private static byte[] Bytes(NgramOverlap overlap)
    {
        using var stream = new MemoryStream();
        overlap.Write(stream);
        return stream.ToArray();
    }

    private static void Add(NgramOverlap overlap, string[] words, int split) => overlap.Add(Encoding.UTF8.GetBytes(string.Join(' ', words)), split);
}
