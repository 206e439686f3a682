using System.Text;
using LlmPipeline.Fakes;
using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Tests.Cleaning;

/// <summary>Near-duplicates against the true Jaccard similarity of 5-gram sets, counted directly.</summary>
public sealed class NearDuplicateAccuracyTests : IDisposable
{
    private const int Words = 400;

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void PairsAboveTheThresholdAreFoundAndOthersAreNot()
    {
        // 600 pairs of similarities from 0.5 to 0.97, planted by changing words.
        var random = new Random(11);
        var texts = new List<string>();
        var pairs = new List<(int First, int Second)>();
        for (var i = 0; i < 600; i++)
        {
            var words = Enumerable.Range(0, Words).Select(_ => $"w{random.Next(5000)}").ToArray();
            pairs.Add((texts.Count, texts.Count + 1));
            texts.Add(string.Join(' ', words));
            texts.Add(string.Join(' ', Change(words, 0.5 + (0.47 * random.NextDouble()), random)));
        }

        var options = new DuplicateOptions { Near = NearDuplicateMode.Remove, Threshold = 0.8 };
        var verdicts = Find(texts, options);
        var truth = pairs.ConvertAll(p => Jaccard(texts[p.First], texts[p.Second]));
        var found = pairs.ConvertAll(p => verdicts[p.Second].First == p.First);
        Assert.True(truth.Min() < 0.55 && truth.Max() > 0.9, $"The planted similarities are {truth.Min():F2} to {truth.Max():F2}.");

        double ShareFound(double from, double to) => Enumerable.Range(0, pairs.Count).Where(i => truth[i] >= from && truth[i] < to).Average(i => found[i] ? 1.0 : 0);
        var foundPairs = Enumerable.Range(0, pairs.Count).Where(i => found[i]).ToList();
        var precision = foundPairs.Average(i => truth[i] >= 0.75 ? 1.0 : 0);
        var report = $"found of [0.85, 1]: {ShareFound(0.85, 1.01):F3}, of [0.80, 0.85): {ShareFound(0.8, 0.85):F3}, of [0.75, 0.80): {ShareFound(0.75, 0.8):F3}, below 0.70: {ShareFound(0, 0.7):F3}; precision at 0.75: {precision:F3}";
        TestContext.Current.TestOutputHelper?.WriteLine(report);

        // The estimate's standard error is 0.035 at 0.8.
        Assert.True(ShareFound(0.85, 1.01) >= 0.93, report);
        Assert.True(ShareFound(0, 0.7) <= 0.02, report);
        Assert.True(precision >= 0.95, report);

        // Nothing is joined that was not planted.
        Assert.All(Enumerable.Range(0, texts.Count), i => Assert.Equal(i / 2, verdicts[i].First / 2));
    }

    [Fact]
    public void EstimateIsUnbiasedAndAsSharpAsItsTheory()
    {
        var random = new Random(12);
        var signer = new DocumentSigner(new DuplicateOptions { Near = NearDuplicateMode.Remove });
        var errors = new List<double>();
        for (var i = 0; i < 300; i++)
        {
            var words = Enumerable.Range(0, Words).Select(_ => $"w{random.Next(5000)}").ToArray();
            var other = Change(words, 0.5 + (0.45 * random.NextDouble()), random);
            var (left, right) = (string.Join(' ', words), string.Join(' ', other));
            var (a, b) = (signer.Sign(Encoding.UTF8.GetBytes(left)).MinHash.ToArray(), signer.Sign(Encoding.UTF8.GetBytes(right)).MinHash.ToArray());
            var truth = Jaccard(left, right);
            errors.Add((a.Zip(b).Count(p => p.First == p.Second) / (double)DocumentSigner.Permutations - truth) / Math.Sqrt(truth * (1 - truth) / DocumentSigner.Permutations));
        }

        // In units of the theory's standard error: mean 0 +- 0.058, standard deviation 1 +- 0.041.
        Assert.InRange(errors.Average(), -0.2, 0.2);
        Assert.InRange(Math.Sqrt(errors.Average(e => e * e)), 0.85, 1.15);
    }

    [Theory]
    [InlineData(0.5)]
    [InlineData(0.7)]
    [InlineData(0.8)]
    [InlineData(0.9)]
    [InlineData(1)]
    public void BandsAreChosenForTheThreshold(double threshold)
    {
        var bands = new LshBands(threshold);
        Assert.True(bands.Bands * bands.Rows <= DocumentSigner.Permutations);
        Assert.True(bands.CandidateProbability(threshold) >= LshBands.Recall);
        TestContext.Current.TestOutputHelper?.WriteLine($"{threshold}: {bands.Bands} x {bands.Rows}");
    }

    [Theory]
    [InlineData(0.49)]
    [InlineData(1.01)]
    [InlineData(double.NaN)]
    public void ThresholdOutOfRangeIsRefused(double threshold) => Assert.Throws<ArgumentOutOfRangeException>(() => new LshBands(threshold));

    [Fact]
    public void SpillingAndThreadsChangeNothing()
    {
        var random = new Random(13);
        var texts = new List<string>();
        for (var i = 0; i < 6000; i++)
        {
            texts.Add(i > 10 && random.Next(3) == 0
                ? texts[random.Next(texts.Count)] + $" and {random.Next(4)}"
                : string.Join(' ', Enumerable.Range(0, 60).Select(_ => $"w{random.Next(3000)}")));
        }

        var options = new DuplicateOptions { Near = NearDuplicateMode.Keep, Threshold = 0.7, MemoryMib = 1 };
        var signer = new DocumentSigner(options);
        var signatures = texts.AsParallel().AsOrdered().Select(t => signer.Sign(Encoding.UTF8.GetBytes(t))).ToList();
        var results = new List<List<DuplicateVerdict>>();
        foreach (var memory in new[] { 1, 256 })
        {
            using var finder = new DuplicateFinder(options with { MemoryMib = memory }, _folder.Path);
            foreach (var signature in signatures)
            {
                finder.Add(signature);
            }

            Assert.Equal(memory == 1, finder.IsSpilled);
            var verdicts = finder.Complete();
            results.Add([.. Enumerable.Range(0, verdicts.Count).Select(i => verdicts[i])]);
        }

        Assert.Equal(results[1], results[0]);
        Assert.Contains(results[0], v => v.Kind == DuplicateKind.Near);
        Assert.Contains(results[0], v => v.Kind == DuplicateKind.Exact);
        Assert.Empty(Directory.GetFiles(_folder.Path));
    }

    [Fact]
    public void KeptNearDuplicatesNeverLeakBetweenSplits()
    {
        var random = new Random(14);
        var texts = new List<string>();
        for (var i = 0; i < 3000; i++)
        {
            // Chains: each text may be a small change of any earlier one.
            var words = i > 0 && random.Next(2) == 0 ? texts[random.Next(texts.Count)].Split(' ') : [.. Enumerable.Range(0, 100).Select(_ => $"w{random.Next(3000)}")];
            texts.Add(string.Join(' ', Change(words, 0.75 + (0.25 * random.NextDouble()), random)));
        }

        foreach (var mode in new[] { NearDuplicateMode.Keep, NearDuplicateMode.Remove })
        {
            var options = new DuplicateOptions { Near = mode, Threshold = 0.8 };
            var signer = new DocumentSigner(options);
            var signatures = texts.ConvertAll(t => signer.Sign(Encoding.UTF8.GetBytes(t)));
            var verdicts = Find(texts, options);
            using var byKind = new LeakCheck(options, _folder.Path);
            using var byHash = new LeakCheck(options, _folder.Path);
            for (var i = 0; i < texts.Count; i++)
            {
                byHash.Add(signatures[i], (byte)(signatures[i].SplitPosition < 0.3 ? 1 : 0));
                if (verdicts[i].Keep)
                {
                    byKind.Add(signatures[i], (byte)(signatures[verdicts[i].First].SplitPosition < 0.3 ? 1 : 0));
                }
            }

            Assert.Equal(new SplitLeaks(0, 0), byKind.Complete());
            Assert.True(byHash.Complete().NearDuplicates > 100);
        }
    }

    [Fact]
    public void VeryManyDocumentsOfOneBandTakeLinearTime()
    {
        // All agree in the first band, and hardly in the others: 10,000 that are no duplicates, each compared with at most 1,024 others.
        var random = new Random(15);
        var bands = new LshBands(0.8);
        var options = new DuplicateOptions { Near = NearDuplicateMode.Remove, Exact = false };
        using var finder = new DuplicateFinder(options, _folder.Path);
        for (var i = 0; i < 10_000; i++)
        {
            var values = Enumerable.Range(0, DocumentSigner.Permutations).Select(j => (ushort)(j < bands.Rows ? 7 : random.Next(0x10000))).ToArray();
            finder.Add(new DocumentSignature((UInt128)i, 0.5, values));
        }

        var watch = System.Diagnostics.Stopwatch.StartNew();
        Assert.Equal(0, finder.Complete().NearDuplicates);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(60), $"It took {watch.Elapsed}.");
    }

    private DuplicateVerdicts Find(List<string> texts, DuplicateOptions options)
    {
        var signer = new DocumentSigner(options);
        using var finder = new DuplicateFinder(options, _folder.Path);
        foreach (var text in texts)
        {
            finder.Add(signer.Sign(Encoding.UTF8.GetBytes(text)));
        }

        return finder.Complete();
    }

    // Replaces the words of one stretch, as long as the similarity asks for: n of N 5-grams in common is n / (2N - n).
    private static string[] Change(string[] words, double similarity, Random random)
    {
        var grams = words.Length - 4;
        var common = 2 * similarity * grams / (1 + similarity);
        var length = Math.Max(0, (int)Math.Round(grams - common) - 4);
        var start = random.Next(words.Length - length);
        return [.. words.Select((w, i) => i >= start && i < start + length ? $"n{random.Next(100_000)}" : w)];
    }

    private static double Jaccard(string left, string right)
    {
        static HashSet<string> Grams(string text)
        {
            var words = text.Split(' ');
            return [.. Enumerable.Range(0, words.Length - 4).Select(i => string.Join(' ', words[i..(i + 5)]))];
        }

        var (a, b) = (Grams(left), Grams(right));
        var common = a.Count(b.Contains);
        return (double)common / (a.Count + b.Count - common);
    }
}
