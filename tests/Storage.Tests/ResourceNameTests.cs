namespace LlmPipeline.Storage.Tests;

public sealed class ResourceNameTests
{
    [Fact]
    public void NamesComeApartAsTheyWerePutTogether()
    {
        Assert.Equal("r100", ResourceName.IdOf("runs/r100", "runs"));
        Assert.Equal("runs/r100/checkpoints/00000042", ResourceName.Checkpoint("runs/r100", 42));
        Assert.Equal(("runs/r100", 42L), ResourceName.ParseCheckpoint("runs/r100/checkpoints/00000042"));
        Assert.Equal(("runs/r100", 1_234_567_890L), ResourceName.ParseCheckpoint(ResourceName.Checkpoint("runs/r100", 1_234_567_890)));
        Assert.Equal(("m100", null), ResourceName.ParseModel("models/m100"));
        Assert.Equal(("m100", 7), ResourceName.ParseModel("models/m100/versions/7"));
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("runs")]
    [InlineData("runs/")]
    [InlineData("runs/abc")]
    [InlineData("runs/ABCD")]
    [InlineData("run/abcd")]
    [InlineData("runs/abcd/x")]
    [InlineData("/runs/abcd")]
    public void AnythingElseIsRefusedWithTheFormExpected(string? name)
    {
        Assert.Contains("runs/ID", Assert.Throws<InvalidResourceNameException>(() => ResourceName.IdOf(name, "runs")).Message, StringComparison.Ordinal);
        Assert.Contains("runs/RUN/checkpoints/STEP", Assert.Throws<InvalidResourceNameException>(() => ResourceName.ParseCheckpoint(name)).Message, StringComparison.Ordinal);
        Assert.Contains("models/MODEL", Assert.Throws<InvalidResourceNameException>(() => ResourceName.ParseModel(name)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("runs/r100/checkpoints/")]
    [InlineData("runs/r100/checkpoints/-1")]
    [InlineData("runs/r100/checkpoints/1234567890123456789")]
    [InlineData("runs/r100/checkpoints/\u0661")]
    public void AStepIsADecimalNumber(string name) => Assert.Throws<InvalidResourceNameException>(() => ResourceName.ParseCheckpoint(name));

    [Fact]
    public void AMessageRepeatsNeitherControlCharactersNorLongTexts()
    {
        var message = Assert.Throws<InvalidResourceNameException>(() => ResourceName.RequireId($"\u001b[31m{new string('x', 1000)}", "run_id")).Message;

        Assert.StartsWith("run_id '?[31mxxx", message, StringComparison.Ordinal);
        Assert.InRange(message.Length, 80, 200);
    }
}
