using Grpc.Core;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Fakes;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;

namespace LlmPipeline.Evaluator.Tests;

public sealed class EvaluationServiceTests
{
    [Fact]
    public async Task AnEvaluationMeasuresTheNetworkAndTheNgramOnTheSameTokens()
    {
        using var folder = new TemporaryFolder();
        await using var host = await EvaluatorHost.StartAsync(folder.Path);
        var evaluation = await host.EvaluateAsync(EvaluatorHost.Spec());
        Assert.Equal(Evaluation.Types.State.Succeeded, evaluation.State);
        var result = evaluation.Result;
        Assert.Equal(evaluation.Name, result.Name);
        Assert.Equal(result.Model.TokenCount, result.Ngram.TokenCount);

        // A fresh network knows nothing: its loss is that of the uniform distribution. The n-gram knows the sentence.
        Assert.InRange(result.Model.Loss, 2.8, 3.8);
        Assert.InRange(result.Ngram.Loss, 0.1, 1);
        Assert.InRange(result.Ngram.Accuracy, 0.6, 1);
        foreach (var quality in new[] { result.Model, result.Ngram })
        {
            Assert.Equal(Math.Exp(quality.Loss), quality.Perplexity, 1e-9);

            // One byte a character here, so bits per byte are bits per token, but for the first token, which nobody predicts.
            Assert.Equal(quality.Loss / Math.Log(2), quality.BitsPerByte, 0.02);
            Assert.InRange(quality.Bleu, 0, 100);
        }

        Assert.True(result.TokensPerSecond > 0);
    }

    [Fact]
    public async Task TheSameSpecGivesTheEvaluationThatIsThere()
    {
        using var folder = new TemporaryFolder();
        Evaluation first;
        await using (var host = await EvaluatorHost.StartAsync(folder.Path))
        {
            first = await host.EvaluateAsync(EvaluatorHost.Spec());
            Assert.Equal(first, await host.CreateAsync(EvaluatorHost.Spec()));
        }

        await using var restarted = await EvaluatorHost.StartAsync(folder.Path);
        Assert.Equal(first, await restarted.CreateAsync(EvaluatorHost.Spec()));
        Assert.Equal([first], (await restarted.Evaluations.ListEvaluationsAsync(new ListEvaluationsRequest(), deadline: EvaluatorHost.Deadline)).Evaluations);
    }

    [Fact]
    public async Task AnEvaluationThatAProcessLeftUnfinishedIsDoneByTheNext()
    {
        using var folder = new TemporaryFolder();
        Evaluation first;
        await using (var host = await EvaluatorHost.StartAsync(folder.Path))
        {
            first = await host.EvaluateAsync(EvaluatorHost.Spec());
        }

        var record = Path.Combine(folder.Path, first.Name, "evaluation.json");
        var unfinished = first.Clone();
        unfinished.State = Evaluation.Types.State.Running;
        unfinished.Result = null;
        unfinished.EndTime = null;
        await BlobStore.Open($"folder={folder.Path}").WriteTextAsync($"{first.Name}/evaluation.json", Google.Protobuf.JsonFormatter.Default.Format(unfinished));
        Assert.True(File.Exists(record));
        await using var restarted = await EvaluatorHost.StartAsync(folder.Path);
        var second = await restarted.EvaluateAsync(EvaluatorHost.Spec());
        Assert.Equal(first.Result.Model, second.Result.Model);
        Assert.Equal(first.Result.Ngram, second.Result.Ngram);
    }

    [Fact]
    public async Task AnotherTokenizerIsAnErrorThatNamesBoth()
    {
        using var folder = new TemporaryFolder();
        await using var host = await EvaluatorHost.StartAsync(folder.Path);
        await EvaluatorHost.MakeDatasetAsync(host.Store, "datasets/other", "XYZ other characters? ");
        var evaluation = await host.EvaluateAsync(EvaluatorHost.Spec(dataset: "datasets/other"));
        Assert.Equal(Evaluation.Types.State.Failed, evaluation.State);
        Assert.Equal(ErrorReasons.TokenizerMismatch, evaluation.Error.Reason);
        Assert.Contains(EvaluatorHost.Checkpoint, evaluation.Error.Message, StringComparison.Ordinal);
        Assert.Contains("datasets/other", evaluation.Error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(EvaluatorHost.Checkpoint, "model.safetensors")]
    [InlineData(EvaluatorHost.Dataset, "validation-00000.bin")]
    public async Task AFlippedByteIsFoundAndTheFileNamed(string directory, string file)
    {
        using var folder = new TemporaryFolder();
        await using var host = await EvaluatorHost.StartAsync(folder.Path);
        var path = Path.Combine(folder.Path, directory, file);
        var bytes = await File.ReadAllBytesAsync(path);
        bytes[bytes.Length / 2] ^= 1;
        await File.WriteAllBytesAsync(path, bytes);
        var evaluation = await host.EvaluateAsync(EvaluatorHost.Spec());
        Assert.Equal(ErrorReasons.CorruptData, evaluation.Error?.Reason);
        Assert.Contains(file, evaluation.Error!.Message, StringComparison.Ordinal);

        // Mended, the same spec is measured after all.
        bytes[bytes.Length / 2] ^= 1;
        await File.WriteAllBytesAsync(path, bytes);
        Assert.Equal(Evaluation.Types.State.Succeeded, (await host.EvaluateAsync(EvaluatorHost.Spec())).State);
    }

    [Theory]
    [InlineData("runs/test/checkpoints/00000009", EvaluatorHost.Dataset, "validation", StatusCode.NotFound)]
    [InlineData(EvaluatorHost.Checkpoint, "datasets/none-such", "validation", StatusCode.NotFound)]
    [InlineData("models/none-such", EvaluatorHost.Dataset, "validation", StatusCode.NotFound)]
    [InlineData("runs/../../etc", EvaluatorHost.Dataset, "validation", StatusCode.InvalidArgument)]
    [InlineData(EvaluatorHost.Checkpoint, "datasets/%2e%2e", "validation", StatusCode.InvalidArgument)]
    [InlineData(EvaluatorHost.Checkpoint, EvaluatorHost.Dataset, "dev", StatusCode.InvalidArgument)]
    public async Task BadRequestsAreRefusedAtOnce(string model, string dataset, string split, StatusCode expected)
    {
        using var folder = new TemporaryFolder();
        await using var host = await EvaluatorHost.StartAsync(folder.Path);
        var spec = EvaluatorHost.Spec(model, dataset);
        spec.Split = split;
        var exception = await Assert.ThrowsAsync<RpcException>(() => host.CreateAsync(spec));
        Assert.Equal(expected, exception.StatusCode);
    }
}
