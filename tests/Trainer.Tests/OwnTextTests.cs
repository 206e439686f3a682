using LlmPipeline.Fakes;
using LlmPipeline.Text;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

public sealed class OwnTextTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void AFolderIsReadWithTheRunsTokenizer()
    {
        var dataset = Dataset();
        File.WriteAllText(Path.Combine(_folder.Path, "b.txt"), "to be");
        File.WriteAllText(Path.Combine(_folder.Path, "a.jsonl"), "{\"text\":\"or not\"}\n{\"text\":\"to\"}\n");
        var tokens = new OwnText(_folder.Path).Open(dataset, 4, CancellationToken.None);
        Assert.Equal((3, "or nottoto be".Length + 3), (tokens.DocumentCount, tokens.TokenCount));
        var ids = new int[tokens.TokenCount];
        tokens.Read(0, ids);
        var tokenizer = TokenizerFile.Parse(dataset.TokenizerJson);
        Assert.Equal("or nottoto be", tokenizer.Decode(ids));
        Assert.Equal(3, ids.Count(id => id == tokenizer.EndOfTextId));
    }

    [Theory]
    [InlineData(null, "Set Worker:Dataset")]
    [InlineData("missing", "is not a folder")]
    [InlineData(".", "names no file")]
    public void WithoutTextTheMessageSaysWhatIsMissing(string? name, string expected)
    {
        var text = new OwnText(name is null ? null : Path.Combine(_folder.Path, name));
        var fatal = Assert.Throws<FatalTrainingException>(() => text.Open(Dataset(), 4, CancellationToken.None));
        Assert.Contains("training.local.own_data", fatal.Message);
        Assert.Contains("Worker:Dataset", fatal.Message);
        Assert.Contains(expected, fatal.Message);
    }

    [Fact]
    public void TooLittleTextIsRefusedWithItsLength()
    {
        File.WriteAllText(Path.Combine(_folder.Path, "a.txt"), "to be");
        var fatal = Assert.Throws<FatalTrainingException>(() => new OwnText(_folder.Path).Open(Dataset(), 64, CancellationToken.None));
        Assert.Contains("has 6 tokens, and a sequence 65", fatal.Message);
    }

    private static TrainingDataset Dataset() => TinyRun.Dataset() with { TokenizerJson = CharacterTokenizer.Create(["to be or not to be"]).ToJson() };
}
