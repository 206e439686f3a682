using LlmPipeline.Evaluations.V1;

namespace LlmPipeline.Cli.Tests;

public sealed class EvaluateCommandTests : IAsyncLifetime
{
    private readonly CliCall _cli = new();
    private FakeGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await FakeGateway.StartAsync();

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _cli.Dispose();
    }

    [Fact]
    public async Task FewShotIsAskedForWithItsLabelsAndSeed()
    {
        Add(Evaluation.Types.State.Succeeded);
        Assert.Equal(0, await _cli.RunAsync(
            _gateway, "evaluate", "m100", "d100", "--few-shot", "4", "--template", "{text}: {label}", "--label", "bad", "--label", "very good", "--documents", "20", "--seed", "7"));
        Assert.Equal(
            new FewShotSpec { Shots = 4, Template = "{text}: {label}", Labels = { "bad", "very good" }, Documents = 20, Seed = 7 },
            ((CreateEvaluationRequest)_gateway.Requests.Single()).Spec.FewShot);
    }

    [Fact]
    public async Task WhatWasForgottenIsAskedForWithBaseAndOldDataset()
    {
        Add(Evaluation.Types.State.Succeeded);
        Assert.Equal(0, await _cli.RunAsync(_gateway, "evaluate", "m100", "d100", "--base", "runs/r100/checkpoints/00000500", "--old-dataset", "d50"));
        var spec = ((CreateEvaluationRequest)_gateway.Requests.Single()).Spec;
        Assert.Equal(("runs/r100/checkpoints/00000500", "datasets/d50", null), (spec.Base, spec.OldDataset, spec.FewShot));

        Assert.Equal(0, await _cli.RunAsync(_gateway, "evaluate", "m100", "d100", "--base", "m99", "--old-dataset", "datasets/d50"));
        Assert.Equal("models/m99", ((CreateEvaluationRequest)_gateway.Requests.Last()).Spec.Base);
    }

    [Theory]
    [InlineData("error: --template, --label, --documents and --seed say how --few-shot asks.", "--label", "bad")]
    [InlineData("error: --template, --label, --documents and --seed say how --few-shot asks.", "--seed", "7")]
    [InlineData("error: --template, --label, --documents and --seed say how --few-shot asks.", "--template", "{text} {label}")]
    [InlineData("error: --base and --old-dataset go together", "--base", "m99")]
    [InlineData("error: --base and --old-dataset go together", "--old-dataset", "d50")]
    [InlineData("error: --few-shot classifies documents, and --base", "--few-shot", "0", "--base", "m99", "--old-dataset", "d50")]
    public async Task OptionsThatDoNotGoTogetherAreNamedBeforeAnythingIsSent(string expected, params string[] options)
    {
        Assert.Equal(2, await _cli.RunAsync(_gateway, ["evaluate", "m100", "d100", .. options]));
        Assert.StartsWith(expected, _cli.Error, StringComparison.Ordinal);
        Assert.Empty(_gateway.Requests);
    }

    [Fact]
    public async Task CtrlCCancelsWhatTheCallBegan()
    {
        Add(Evaluation.Types.State.Queued);
        Assert.Equal(130, await LeaveAsync());
        Assert.Equal("evaluations/e100", ((CancelEvaluationRequest)_gateway.Requests.Last()).Name);
        Assert.Equal("evaluations/e100 is CANCELLED.\n", _cli.Error);
    }

    [Fact]
    public async Task CtrlCLeavesWhatWasFoundAndSaysHowToCancelIt()
    {
        // Somebody else waits for it, a run for example.
        _gateway.QueuesEvaluations = false;
        Add(Evaluation.Types.State.Queued);
        Assert.Equal(130, await LeaveAsync());
        Assert.IsType<CreateEvaluationRequest>(Assert.Single(_gateway.Requests));
        Assert.Equal("evaluations/e100 goes on without being watched. Cancel it with 'llmpipe evaluations cancel evaluations/e100'.\n", _cli.Error);
    }

    [Fact]
    public async Task AnEvaluationThatSomebodyElseCancelsEndsTheCall()
    {
        Add(Evaluation.Types.State.Queued);
        Add(Evaluation.Types.State.Cancelled);
        Assert.Equal(130, await _cli.RunAsync(_gateway, "evaluate", "m100", "d100"));
        Assert.Equal("evaluations/e100 was cancelled.\n", _cli.Error);
    }

    [Fact]
    public async Task CancelNamesTheEvaluation()
    {
        Assert.Equal(0, await _cli.RunAsync(_gateway, "evaluations", "cancel", "e100"));
        Assert.Equal("evaluations/e100", ((CancelEvaluationRequest)Assert.Single(_gateway.Requests)).Name);
        Assert.Equal("evaluations/e100 is CANCELLED.\n", _cli.Output);
    }

    private async Task<int> LeaveAsync()
    {
        using var ctrlC = new CancellationTokenSource();
        var call = _cli.RunAsync(_gateway, ctrlC.Token, "evaluate", "m100", "d100");
        await _gateway.WatcherWaits.Task.WaitAsync(TimeSpan.FromSeconds(30));
        await ctrlC.CancelAsync();
        return await call;
    }

    private void Add(Evaluation.Types.State state) => _gateway.Evaluations.Add(new Evaluation
    {
        Name = "evaluations/e100",
        State = state,
        Result = state == Evaluation.Types.State.Succeeded ? FollowTests.Result : null,
    });
}
