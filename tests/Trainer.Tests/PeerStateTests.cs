using Grpc.Core;
using LlmPipeline.Fakes;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Worker;
using LlmPipeline.Workers.V1;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;

namespace LlmPipeline.Trainer.Tests;

public sealed class PeerStateTests : IAsyncLifetime
{
    private readonly RingRegistry _registry = new();
    private readonly ReplicaHolder _holder = new();
    private readonly int _port = FreePort.Next();
    private readonly Replica _source = TinyRun.NewReplica(TinyRun.Spec());
    private readonly Replica _target = TinyRun.NewReplica(TinyRun.Spec(s => s.Seed = 99));
    private WebApplication? _app;

    public async ValueTask InitializeAsync()
    {
        _app = await TestHost.StartAsync(
            _port,
            b =>
            {
                b.Services.AddSingleton(_registry);
                b.Services.AddSingleton(_holder);
            },
            a => a.MapGrpcService<PeerStateService>());
        _source.State = _source.State with { Step = 17, TokenCount = 17 * 48, BestValidationLoss = 1.5 };
        Array.Fill(_source.OptimizerState[0], 0.25f);
        Array.Fill(_source.OptimizerState[1], 0.5f);
        _source.Serve();
        _holder.Current = _source;
        _registry.Enter(3, null);
    }

    public async ValueTask DisposeAsync()
    {
        await _app!.DisposeAsync();
        _source.Dispose();
        _target.Dispose();
    }

    [Fact]
    public async Task AStateArrivesBitForBit()
    {
        Assert.False(TrainingLoopTests.SameState(_source, _target));
        _target.BeginArrival(_source.State);
        Assert.False(_target.IsWhole);
        await FillAsync(3, 17);
        _target.CompleteArrival();
        Assert.True(_target.IsWhole);
        Assert.True(TrainingLoopTests.SameState(_source, _target));
    }

    [Fact]
    public async Task WhatIsServedStaysAsItWasWhileTheReplicaStepsOn()
    {
        var served = _source.OptimizerState[0][0];
        _source.OptimizerState[0][0] = 77;
        _source.State = _source.State with { Step = 20 };
        await FillAsync(3, 17);
        Assert.Equal(served, _target.OptimizerState[0][0]);
        var copy = _source.Served!;
        Assert.True(copy.TryHold());
        _source.StopServing();
        var last = new byte[4];
        copy.Read(copy.Length - last.Length, last);
        Assert.Equal(0.5f, BitConverter.ToSingle(last));
        copy.Release();
        Assert.False(copy.TryHold());
        Assert.Equal(StatusCode.Aborted, (await Assert.ThrowsAsync<RpcException>(() => FillAsync(3, 17))).StatusCode);
    }

    [Theory]
    [InlineData(2, 17)]
    [InlineData(3, 16)]
    [InlineData(3, 18)]
    public async Task WhatIsNotHeldIsAborted(long epoch, long step)
    {
        var error = await Assert.ThrowsAsync<RpcException>(() => FillAsync(epoch, step));
        Assert.Equal(StatusCode.Aborted, error.StatusCode);
    }

    [Fact]
    public async Task AStateOfAnotherModelIsRefused()
    {
        using var larger = TinyRun.NewReplica(TinyRun.Spec(s => s.Model.Width = 32));
        larger.State = larger.State with { Step = 17 };
        larger.Serve();
        _holder.Current = larger;
        var error = await Assert.ThrowsAsync<InvalidDataException>(() => FillAsync(3, 17));
        Assert.Contains($"{_target.StateBytes} bytes", error.Message);
    }

    private Task FillAsync(long epoch, long step) => StateCopy.FillAsync(
        _target, PeerConnections.Plaintext, $"http://localhost:{_port}", new CopyStateRequest { Epoch = epoch, Run = "runs/tiny", Attempt = 1, Step = step }, CancellationToken.None).WaitAsync(TinyRun.Timeout);
}
