using Grpc.Core;
using LlmPipeline.Fakes;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using State = LlmPipeline.Evaluations.V1.Evaluation.Types.State;

namespace LlmPipeline.Evaluator.Tests;

/// <summary>Storage that does not take a write, or has a damaged file.</summary>
public sealed class StorageFailureTests
{
    private const string Checkpoint = "runs/run-1/checkpoints/00000010";

    // The record is written when it is created, when the evaluation begins, and when it ends.
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    public async Task ARecordThatCannotBeWrittenIsWrittenLater(int failing)
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync(Checkpoint);
        var writes = 0;
        var store = new FaultyStore(new FolderBlobStore(workshop.StorePath))
        {
            Committing = name => name.EndsWith("/evaluation.json", StringComparison.Ordinal) && Interlocked.Increment(ref writes) == failing
                ? throw new IOException("The disk is full.")
                : Task.CompletedTask,
        };
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath, store);
        var done = await host.EvaluateAsync(Workshop.Spec(Checkpoint));
        Assert.Equal(State.Succeeded, done.State);
        Assert.True(done.Result.Model.Loss > 0);
        Assert.Equal(4, writes);
    }

    [Theory]
    [InlineData(Checkpoint)]
    [InlineData(Workshop.Dataset)]
    public async Task ADamagedManifestIsDataLossThatNamesTheFile(string directory)
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync(Checkpoint);
        await workshop.Store.WriteTextAsync($"{directory}/manifest.json", "{ broken");
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var error = await Assert.ThrowsAsync<RpcException>(() => host.CreateAsync(Workshop.Spec(Checkpoint)));
        Assert.Equal(StatusCode.DataLoss, error.StatusCode);
        Assert.Contains($"'{directory}/manifest.json' is damaged", error.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(ErrorReasons.CorruptData, error.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason);
    }
}
