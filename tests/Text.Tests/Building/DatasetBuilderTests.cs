using System.Text;
using LlmPipeline.Fakes;
using LlmPipeline.Storage;
using LlmPipeline.Text.Building;
using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Shards;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Tests.Building;

public sealed class DatasetBuilderTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly TemporaryFolder _folder = new();
    private readonly IBlobStore _store;

    public DatasetBuilderTests() => _store = BlobStore.Open($"folder={Path.Combine(_folder.Path, "store")}");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task TailSplitOfTinyShakespeareIsThatOfNanoGpt()
    {
        var properties = await BuildAsync(new DatasetRecipe
        {
            Sources = [TestData.PathOf("tinyshakespeare/input.txt")],
            Tokenizer = new TokenizerRecipe { Options = new TokenizerOptions { Kind = "character" } },
            SplitMethod = SplitMethod.Tail,
            ValidationFraction = 0.1,
        });

        Assert.Equal([("train", 1_003_854L, 1_003_854L), ("validation", 111_540L, 111_541L)],
            properties.Splits.Select(s => (s.Split, s.CharacterCount, s.TokenCount)));
        using var dataset = await OpenAsync();
        Assert.Equal(65, Enumerable.Range(0, dataset.Tokenizer.VocabularySize).Count(id => dataset.Tokenizer.BytesOf(id).Length > 0));
        var text = await File.ReadAllTextAsync(TestData.PathOf("tinyshakespeare/input.txt"));
        Assert.Equal(text, DecodeAll(dataset, "train") + DecodeAll(dataset, "validation"));

        // Only the true end of the document has an end-of-text id.
        Assert.DoesNotContain(dataset.Tokenizer.EndOfTextId, ReadAll(dataset.Split("train")));
        Assert.Equal(dataset.Tokenizer.EndOfTextId, ReadAll(dataset.Split("validation"))[^1]);
    }

    [Fact]
    public async Task TailSplitCutsInsideADocumentAtACharacter()
    {
        _folder.Write("text/a.txt", "αβγδ");
        _folder.Write("text/b.txt", "😀εζηθι");
        var properties = await BuildAsync(Character(SplitMethod.Tail) with { ValidationFraction = 0.3, TestFraction = 0.2 });
        using var dataset = await OpenAsync();
        Assert.Equal(["αβγδ😀", "εζη", "θι"], properties.Splits.Select(s => DecodeAll(dataset, s.Split)));
        Assert.Equal([6L, 3L, 3L], properties.Splits.Select(s => s.TokenCount));
        Assert.Equal([12L, 6L, 4L], properties.Splits.Select(s => s.ByteCount));
        Assert.Equal([5L, 6L], await DocumentEndsAsync("train"));
        Assert.Equal([3L], await DocumentEndsAsync("validation"));
    }

    [Fact]
    public async Task EveryDocumentEndsWithEndOfTextAndItsEndIsListed()
    {
        WriteDocuments(500);
        var properties = await BuildAsync(Character(SplitMethod.Document) with { ValidationFraction = 0.2, TestFraction = 0.1 });
        using var dataset = await OpenAsync();
        foreach (var split in properties.Splits)
        {
            var ids = ReadAll(dataset.Split(split.Split));
            var ends = await DocumentEndsAsync(split.Split);
            Assert.Equal(split.DocumentCount, ends.Count);
            Assert.Equal(ids.Index().Where(i => i.Item == dataset.Tokenizer.EndOfTextId).Select(i => i.Index + 1L), ends);
            Assert.Equal(split.ByteCount, Encoding.UTF8.GetByteCount(DecodeAll(dataset, split.Split)));
        }

        Assert.Equal(500, properties.Splits.Sum(s => s.DocumentCount));
        Assert.InRange(properties.Splits[1].DocumentCount, 70, 130);
        Assert.InRange(properties.Splits[2].DocumentCount, 30, 75);
    }

    [Fact]
    public async Task SplitOfADocumentDoesNotDependOnTheOthers()
    {
        WriteDocuments(400);
        await BuildAsync(Character(SplitMethod.Document) with { ValidationFraction = 0.3 });
        HashSet<string> before;
        using (var dataset = await OpenAsync())
        {
            before = [.. DecodeAll(dataset, "validation").Split('\n')];
        }

        for (var i = 0; i < 200; i++)
        {
            File.Delete(Path.Combine(_folder.Path, "text", $"{i:D4}.txt"));
        }

        await BuildAsync(Character(SplitMethod.Document) with { ValidationFraction = 0.3 }, "datasets/half");
        using var half = await OpenAsync("datasets/half");
        Assert.Subset(before, DecodeAll(half, "validation").Split('\n').ToHashSet());
    }

    [Fact]
    public async Task DuplicatesAfterCleaningAreDroppedAndCounted()
    {
        _folder.Write("text/a.txt", "caf\u00E9  \r\n");
        _folder.Write("text/b.txt", "cafe\u0301\n");
        _folder.Write("text/c.txt", "tea\n");
        _folder.Write("text/d.txt", " \n\t");
        var progress = new BuildProgress();
        var properties = await BuildAsync(
            Character(SplitMethod.Tail) with { ValidationFraction = 0, Cleaning = new CleaningOptions { Whitespace = true } }, progress: progress);
        Assert.Equal(1, properties.DuplicateCount);
        Assert.Equal(2, properties.DocumentCount);
        Assert.Equal(1, progress.Duplicates);
        Assert.Equal(1, progress.Fraction, 9);
        using var dataset = await OpenAsync();
        Assert.Equal("café\ntea\n", DecodeAll(dataset, "train"));
    }

    [Fact]
    public async Task MembersOfDocumentationSeenBeforeAreDropped()
    {
        const string Xml = "<doc><members><member name='T:N.T'><summary>A type.</summary></member>"
            + "<member name='M:N.T.M'><summary>Does.</summary></member><member name='M:N.T.M(System.Int32)'><summary>Does.</summary></member></members></doc>";
        const string Newer = "<doc><members><member name='T:N.T'><summary>A type.</summary></member><member name='P:N.T.P'><summary>New.</summary></member></members></doc>";
        SourceFile[] files = [.. new[] { Xml, Xml, Newer }.Select((x, i) => SourceFile.Create(_folder.Write($"{i}.xml", x), SourceFormat.XmlDocumentation))];
        var folder = await JobFolder.BeginAsync(_store, new JobDescription("job", "datasets/test", Character(SplitMethod.Tail), null, null, null), default);
        await using (var unit = await folder.CreateAsync(UnitPlan.UnitFile(0), default))
        {
            await unit.Stream.WriteAsync(Assert.Single(SourceUnits.Plan(files, 1)).ToJson());
            await unit.CommitAsync();
        }

        var result = await new UnitReading(folder, new SourceOptions(), new BuildProgress()).ReadAsync(0, 4, default).WaitAsync(Patience);
        await using var text = await DocumentFiles.OpenTextAsync(folder, 0, default);
        using var reader = new StreamReader(text);
        Assert.Equal("# N.T\nA type.\n\n## M()\nDoes.\n# N.T\n\n## P\nNew.\n", await reader.ReadToEndAsync());
        Assert.Equal((2, files.Sum(f => f.Length)), (result.Documents, result.SourceBytes));
    }

    [Theory]
    [InlineData("bpe", SplitMethod.Document)]
    [InlineData("character", SplitMethod.Tail)]
    public async Task ParallelAndSequentialWorkGiveTheSameBytes(string kind, SplitMethod method)
    {
        WriteDocuments(600);
        var recipe = Character(method) with { Tokenizer = new TokenizerRecipe { Options = new TokenizerOptions { Kind = kind, VocabularySize = 300 } }, ValidationFraction = 0.2 };
        var one = await BuildAsync(recipe, "datasets/same", degree: 1);
        var files = (await _store.TryReadManifestAsync("datasets/same"))!.Files;
        var many = await BuildAsync(recipe, "datasets/same", degree: 7, unitBytes: 100_000);
        Assert.Equal(one.ToJson().ToJsonString(), many.ToJson().ToJsonString());
        Assert.Equal(files, (await _store.TryReadManifestAsync("datasets/same"))!.Files);
        Assert.Equal(["data_card.json", "data_card.md", "train-00000.bin", "train.documents", "validation-00000.bin", "validation.documents"], files.Select(f => f.Name));
    }

    [Fact]
    public async Task ShardsAreBoundedAndReadAcross()
    {
        WriteDocuments(300);
        var properties = await BuildAsync(Character(SplitMethod.Tail) with { ValidationFraction = 0 }, maxShardBytes: 1001);
        var train = Assert.Single(properties.Splits);
        Assert.True(train.Shards.Count > 10);
        foreach (var shard in train.Shards.SkipLast(1))
        {
            Assert.Equal(1000, (await _store.TryGetPropertiesAsync($"datasets/test/{shard}"))!.Length);
        }

        using var dataset = await OpenAsync();
        var all = ReadAll(dataset.Split("train"));
        var random = new Random(1);
        for (var i = 0; i < 200; i++)
        {
            var start = random.Next(all.Length);
            var part = new int[random.Next(Math.Min(2000, all.Length - start) + 1)];
            dataset.Split("train").Read(start, part);
            Assert.Equal(all[start..(start + part.Length)], part);
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => dataset.Split("train").Read(all.Length - 1, new int[2]));
        Assert.Throws<ArgumentOutOfRangeException>(() => dataset.Split("train").Read(-1, new int[1]));
        Assert.Contains("split.validation_fraction", Assert.Throws<InvalidDataException>(() => dataset.Split("validation")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task LargeVocabulariesTakeFourBytesAnId()
    {
        var text = new StringBuilder();
        for (var c = 0x20; c < 0x20 + 80_000; c++)
        {
            text.Append(Rune.IsValid(c) ? new Rune(c).ToString() : "");
        }

        _folder.Write("text/a.txt", text.ToString());
        var properties = await BuildAsync(Character(SplitMethod.Tail) with { ValidationFraction = 0, Cleaning = new CleaningOptions { Unicode = UnicodeMode.None } });
        Assert.Equal("uint32", properties.DataType);
        using var dataset = await OpenAsync();
        Assert.Equal(text.ToString(), DecodeAll(dataset, "train"));
        Assert.Contains(ReadAll(dataset.Split("train")), id => id > ushort.MaxValue);
    }

    [Fact]
    public async Task TruncatedShardIsNamed()
    {
        WriteDocuments(50);
        await BuildAsync(Character(SplitMethod.Tail));
        var shard = _store.TryGetLocalPath("datasets/test/validation-00000.bin")!;
        await using (var stream = File.Open(shard, FileMode.Open))
        {
            stream.SetLength(stream.Length - 2);
        }

        var exception = await Assert.ThrowsAsync<CorruptDirectoryException>(() => OpenAsync());
        Assert.Contains("validation-00000.bin", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ExistingTokenizerIsUsedAgain()
    {
        WriteDocuments(50);
        var first = await BuildAsync(Character(SplitMethod.Tail));
        var again = await BuildAsync(Character(SplitMethod.Tail) with { Tokenizer = new TokenizerRecipe { Name = first.Tokenizer }, ValidationFraction = 0.2 }, "datasets/again");
        Assert.Equal((first.Tokenizer, first.TokenizerHash), (again.Tokenizer, again.TokenizerHash));
    }

    [Fact]
    public async Task ReadingStopsAtTheByteLimit()
    {
        _folder.Write("text/a.txt", "12345678");
        _folder.Write("text/b.txt", "éééé");
        _folder.Write("text/c.txt", "never read");
        await BuildAsync(Character(SplitMethod.Tail) with { ValidationFraction = 0, MaxBytes = 13 });
        using var dataset = await OpenAsync();
        Assert.Equal("12345678éé", DecodeAll(dataset, "train"));
    }

    [Theory]
    [InlineData(SplitMethod.Document, "one document", "The validation split would be empty: there are only 1 different documents to divide. Set split.method to tail")]
    [InlineData(SplitMethod.Tail, "x", "The train split would be empty")]
    [InlineData(SplitMethod.Document, " \n ", "The sources hold no text: 1 files were read")]
    public async Task TooLittleTextSaysWhatToDo(SplitMethod method, string text, string message)
    {
        _folder.Write("text/a.txt", text);
        var exception = await Assert.ThrowsAsync<TextSourceException>(() => BuildAsync(Character(method)));
        Assert.Equal(TextSourceProblem.Empty, exception.Problem);
        Assert.StartsWith(message, exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task BrokenDocumentStopsTheWorkAndLeavesNothing()
    {
        WriteDocuments(300);
        var broken = _folder.Write("text/0150.txt", [0xC3, 0x28]);
        var exception = await Assert.ThrowsAsync<TextSourceException>(() => BuildAsync(Character(SplitMethod.Document)));
        Assert.Contains(broken, exception.Message, StringComparison.Ordinal);
        Assert.Null(await _store.TryReadManifestAsync("datasets/test"));
        Assert.Empty(await _store.ListAsync("datasets/test/").ToListAsync());
        Assert.Empty(Directory.EnumerateFiles(_folder.Path, "*.tmp"));
    }

    [Fact]
    public void TokenizerSampleIsSpreadOverTheTextAndDoesNotDependOnItsNeighbours()
    {
        var documents = Enumerable.Range(0, 10_000).Select(i => new SelectedDocument(new byte[100], 100, 0, true, Mixing.Mix((ulong)i, 7))).ToList();
        Assert.All(documents, d => Assert.Single(WordCounting.Sample(d, 1)));
        var taken = documents.Index().Where(d => WordCounting.Sample(d.Item, 0.1).Any()).Select(d => d.Index).ToList();
        Assert.InRange(taken.Count, 850, 1150);
        Assert.All(Enumerable.Range(0, 10), i => Assert.InRange(taken.Count(t => t / 1000 == i), 60, 140));

        // A long document stands for no more than a part of itself.
        var pieces = WordCounting.Sample(new SelectedDocument(new byte[64 << 20], 64 << 20, 0, true, 1), 0.25).ToList();
        Assert.InRange(pieces.Count, 6, 26);
        Assert.All(pieces, p => Assert.Equal(1 << 20, p.Length));
    }

    private DatasetRecipe Character(SplitMethod method) => new()
    {
        Sources = [Path.Combine(_folder.Path, "text")],
        Tokenizer = new TokenizerRecipe { Options = new TokenizerOptions { Kind = "character" } },
        SplitMethod = method,
        ValidationFraction = 0.1,
    };

    private void WriteDocuments(int count)
    {
        for (var i = 0; i < count; i++)
        {
            _folder.Write($"text/{i:D4}.txt", $"document {i} says {string.Concat(Enumerable.Repeat((char)('a' + (i % 26)), i % 50))} ü\n");
        }
    }

    private Task<DatasetProperties> BuildAsync(
        DatasetRecipe recipe, string name = "datasets/test", int degree = 4, long? maxShardBytes = null, long unitBytes = DatasetBuilderOptions.DefaultUnitBytes, BuildProgress? progress = null)
    {
        var options = new DatasetBuilderOptions(_folder.Path, degree) { UnitBytes = unitBytes };
        return new DatasetBuilder(_store, maxShardBytes is { } bytes ? options with { MaxShardBytes = bytes } : options)
            .BuildAsync(recipe, new DatasetTarget(name), progress ?? new BuildProgress(), _ => Task.CompletedTask).WaitAsync(Patience);
    }

    private Task<TokenDataset> OpenAsync(string name = "datasets/test") => TokenDataset.OpenAsync(_store, name).WaitAsync(Patience);

    private static string DecodeAll(TokenDataset dataset, string split) => dataset.Tokenizer.Decode(ReadAll(dataset.Split(split)));

    private static int[] ReadAll(TokenSplit split)
    {
        var ids = new int[split.TokenCount];
        split.Read(0, ids);
        return ids;
    }

    private async Task<List<long>> DocumentEndsAsync(string split)
    {
        await using var stream = await _store.OpenReadAsync($"datasets/test/{split}.documents");
        var bytes = new byte[stream.Length];
        await stream.ReadExactlyAsync(bytes);
        return [.. Enumerable.Range(0, bytes.Length / 8).Select(i => BitConverter.ToInt64(bytes, i * 8))];
    }
}
