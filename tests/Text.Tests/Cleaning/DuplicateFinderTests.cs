using System.Text;
using LlmPipeline.Fakes;
using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Tests.Cleaning;

public sealed class DuplicateFinderTests : IDisposable
{
    private const string Text = "The quick brown fox jumps over the lazy dog while seven other animals of the forest look on and wonder what it is about";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void SameTextIsAnExactDuplicateOfTheFirst()
    {
        var verdicts = Find(new DuplicateOptions(), Text, "another text", Text, "a third text", Text);
        Assert.Equal([(DuplicateKind.Unique, 0), (DuplicateKind.Unique, 1), (DuplicateKind.Exact, 0), (DuplicateKind.Unique, 3), (DuplicateKind.Exact, 0)], KindsOf(verdicts));
        Assert.Equal((2, 0), (verdicts.ExactDuplicates, verdicts.NearDuplicates));
        Assert.Equal([true, true, false, true, false], Enumerable.Range(0, 5).Select(i => verdicts[i].Keep));
    }

    [Fact]
    public void SameTextStaysWhereThatIsAskedFor()
    {
        var verdicts = Find(new DuplicateOptions { Exact = false }, Text, Text);
        Assert.Equal([(DuplicateKind.Unique, 0), (DuplicateKind.Unique, 1)], KindsOf(verdicts));
    }

    [Theory]
    [InlineData(NearDuplicateMode.Remove, false)]
    [InlineData(NearDuplicateMode.Keep, true)]
    public void NearDuplicateBelongsToTheFirstOfItsKind(NearDuplicateMode mode, bool keep)
    {
        var verdicts = Find(new DuplicateOptions { Near = mode }, "something else that is not like the rest of these texts", Text, Text + " indeed", Text);
        Assert.Equal([(DuplicateKind.Unique, 0), (DuplicateKind.Unique, 1), (DuplicateKind.Near, 1), (DuplicateKind.Exact, 1)], KindsOf(verdicts));
        Assert.Equal([true, true, keep, false], Enumerable.Range(0, 4).Select(i => verdicts[i].Keep));
        Assert.Equal((1, 1), (verdicts.ExactDuplicates, verdicts.NearDuplicates));
    }

    [Fact]
    public void PunctuationCaseAndBlanksDoNotMakeAnotherText()
    {
        var verdicts = Find(new DuplicateOptions { Near = NearDuplicateMode.Remove }, Text, Text.ToUpperInvariant().Replace(" ", ",  ", StringComparison.Ordinal));
        Assert.Equal(DuplicateKind.Near, verdicts[1].Kind);
    }

    [Fact]
    public void TextsWithoutWordsAreNoNearDuplicates()
    {
        var verdicts = Find(new DuplicateOptions { Near = NearDuplicateMode.Remove }, "...", "!!", "--- ---");
        Assert.Equal([0, 1, 2], Enumerable.Range(0, 3).Select(i => verdicts[i].First));
    }

    [Fact]
    public void ScriptsWithoutBlanksAreComparedByCharacters()
    {
        const string chinese = "\u4eba\u4eba\u751f\u800c\u81ea\u7531\u5728\u5c0a\u4e25\u548c\u6743\u5229\u4e0a\u4e00\u5f8b\u5e73\u7b49\u4ed6\u4eec\u8d4b\u6709\u7406\u6027\u548c\u826f\u5fc3\u5e76\u5e94\u4ee5\u5144\u5f1f\u5173\u7cfb\u7684\u7cbe\u795e\u76f8\u5bf9\u5f85";
        var verdicts = Find(new DuplicateOptions { Near = NearDuplicateMode.Remove }, chinese, chinese + "\u4e86", chinese[20..] + chinese[..10]);
        Assert.Equal([DuplicateKind.Unique, DuplicateKind.Near, DuplicateKind.Unique], KindsOf(verdicts).Select(v => v.Kind));
    }

    [Fact]
    public void SignaturesSurviveTheirBytes()
    {
        foreach (var mode in Enum.GetValues<NearDuplicateMode>())
        {
            foreach (var text in new[] { "", "...", "word", Text })
            {
                var signature = new DocumentSigner(new DuplicateOptions { Near = mode }).Sign(Encoding.UTF8.GetBytes(text));
                var bytes = new byte[signature.ByteLength + 3];
                signature.WriteTo(bytes);
                Assert.Equal(signature, DocumentSignature.Read(bytes));
                Assert.InRange(signature.SplitPosition, 0, 1);
            }
        }

        Assert.Throws<InvalidDataException>(() => DocumentSignature.Read([1, 2, 3]));
    }

    private DuplicateVerdicts Find(DuplicateOptions options, params string[] texts)
    {
        var signer = new DocumentSigner(options);
        using var finder = new DuplicateFinder(options, _folder.Path);
        foreach (var text in texts)
        {
            finder.Add(signer.Sign(Encoding.UTF8.GetBytes(text)));
        }

        return finder.Complete();
    }

    private static IEnumerable<(DuplicateKind Kind, int First)> KindsOf(DuplicateVerdicts verdicts) =>
        Enumerable.Range(0, verdicts.Count).Select(i => (verdicts[i].Kind, verdicts[i].First));
}
