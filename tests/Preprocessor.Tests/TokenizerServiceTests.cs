using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Preprocessor.Tests;

public sealed class TokenizerServiceTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task TextIsEncodedAndDecodedWithTheTokenizerOfADataset()
    {
        await using var host = await PreprocessorHost.StartAsync(_folder.Path);
        var tokenizer = await MakeTokenizerAsync(host);
        const string Text = "to be or not to be <|endoftext|>";
        var ids = (await host.Tokenizers.EncodeAsync(new EncodeRequest { Tokenizer = tokenizer, Text = Text }, deadline: PreprocessorHost.Deadline)).Ids;
        Assert.InRange(ids.Count, 10, Text.Length);
        var decoded = await host.Tokenizers.DecodeAsync(new DecodeRequest { Tokenizer = tokenizer, Ids = { ids } }, deadline: PreprocessorHost.Deadline);
        Assert.Equal(Text, decoded.Text);
    }

    [Fact]
    public async Task WrongRequestsAreRefused()
    {
        await using var host = await PreprocessorHost.StartAsync(_folder.Path);
        var tokenizer = await MakeTokenizerAsync(host);
        await AssertErrorAsync(Encode("tokenizers/none", "x"), StatusCode.NotFound, ErrorReasons.NotFound, "'tokenizers/none' does not exist");
        await AssertErrorAsync(Encode("../x", "x"), StatusCode.InvalidArgument, ErrorReasons.InvalidName, "tokenizers/ID");
        await AssertErrorAsync(Encode(tokenizer, new string('x', (1 << 20) + 1)), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "text has 1048577 bytes");
        await AssertErrorAsync(Decode(tokenizer, 0, -1), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "ids[1] is -1");
        await AssertErrorAsync(Decode(tokenizer, 300), StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "has the ids 0 to 299");

        Func<Task> Encode(string name, string text) => async () =>
            await host.Tokenizers.EncodeAsync(new EncodeRequest { Tokenizer = name, Text = text }, deadline: PreprocessorHost.Deadline);
        Func<Task> Decode(string name, params int[] ids) => async () =>
            await host.Tokenizers.DecodeAsync(new DecodeRequest { Tokenizer = name, Ids = { ids } }, deadline: PreprocessorHost.Deadline);
    }

    [Fact]
    public async Task DamagedTokenizerIsDataLoss()
    {
        string tokenizer;
        await using (var host = await PreprocessorHost.StartAsync(_folder.Path))
        {
            tokenizer = await MakeTokenizerAsync(host);
        }

        var file = Path.Combine(_folder.Path, tokenizer, "tokenizer.json");
        File.WriteAllText(file, File.ReadAllText(file)[..^20]);
        await using var next = await PreprocessorHost.StartAsync(_folder.Path);
        await AssertErrorAsync(
            async () => await next.Tokenizers.EncodeAsync(new EncodeRequest { Tokenizer = tokenizer, Text = "x" }, deadline: PreprocessorHost.Deadline),
            StatusCode.DataLoss, ErrorReasons.CorruptData, "tokenizer.json");
    }

    private async Task<string> MakeTokenizerAsync(PreprocessorHost host)
    {
        var path = _folder.Write("text.txt", string.Concat(Enumerable.Range(0, 400).Select(i => $"to be or not to be, that is question {i} of {i * 7} others\n")));
        var dataset = await host.CreateAsync(new DatasetSpec { Sources = { path }, Tokenizer = new TokenizerSpec { VocabularySize = 300 } });
        return (await host.WatchAsync(dataset.Name))[^1].Dataset.Tokenizer;
    }

    private static async Task AssertErrorAsync(Func<Task> call, StatusCode code, string reason, string message)
    {
        var exception = await Assert.ThrowsAsync<RpcException>(call);
        Assert.Equal(code, exception.StatusCode);
        Assert.Contains(message, exception.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(reason, exception.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason);
    }
}
