using Grpc.Core;
using LlmPipeline.Evaluations.V1;

namespace LlmPipeline.Trainer.Tests.Coordinator;

/// <summary>An Evaluator that measures what it is told to, as soon as <see cref="Release"/> says so.</summary>
internal sealed class FakeEvaluator : EvaluationService.EvaluationServiceBase
{
    private TaskCompletionSource? _heldCreation;
    private volatile TaskCompletionSource _released = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public FakeEvaluator() => Release();

    public double Loss { get; set; } = 2;

    /// <summary>What was asked for.</summary>
    public List<EvaluationRequestSpec> Requests { get; } = [];

    public EvaluationError? Failure { get; set; }

    /// <summary>Evaluations that were cancelled.</summary>
    public List<string> Cancelled { get; } = [];

    /// <summary>Whether somebody else cancels the evaluation, instead of a result.</summary>
    public bool EndsCancelled { get; set; }

    public void Hold() => _released = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public void Release() => _released.TrySetResult();

    /// <summary>The next call that makes an evaluation is not answered; completes when it has come.</summary>
    public Task HoldNextCreation()
    {
        _heldCreation = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        return _heldCreation.Task;
    }

    public override async Task<CreateEvaluationResponse> CreateEvaluation(CreateEvaluationRequest request, ServerCallContext context)
    {
        lock (Requests)
        {
            Requests.Add(request.Spec);
        }

        if (Interlocked.Exchange(ref _heldCreation, null) is { } held)
        {
            held.SetResult();
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
        }

        return new CreateEvaluationResponse { Evaluation = Evaluation(Evaluations.V1.Evaluation.Types.State.Queued) };
    }

    public override Task<CancelEvaluationResponse> CancelEvaluation(CancelEvaluationRequest request, ServerCallContext context)
    {
        Cancelled.Add(request.Name);
        return Task.FromResult(new CancelEvaluationResponse { Evaluation = Evaluation(Evaluations.V1.Evaluation.Types.State.Cancelled) });
    }

    public override async Task WatchEvaluation(WatchEvaluationRequest request, IServerStreamWriter<WatchEvaluationResponse> responseStream, ServerCallContext context)
    {
        await responseStream.WriteAsync(new WatchEvaluationResponse { Sequence = 1, Evaluation = Evaluation(Evaluations.V1.Evaluation.Types.State.Running) });
        await _released.Task.WaitAsync(context.CancellationToken);
        await responseStream.WriteAsync(new WatchEvaluationResponse
        {
            Sequence = 2,
            Evaluation = Evaluation(EndsCancelled ? Evaluations.V1.Evaluation.Types.State.Cancelled
                : Failure is null ? Evaluations.V1.Evaluation.Types.State.Succeeded : Evaluations.V1.Evaluation.Types.State.Failed),
        });
    }

    private Evaluation Evaluation(Evaluation.Types.State state) => new()
    {
        Name = "evaluations/some-evaluation",
        State = state,
        Fraction = state == Evaluations.V1.Evaluation.Types.State.Running ? 0.5 : 1,
        Error = state == Evaluations.V1.Evaluation.Types.State.Failed ? Failure : null,
        Result = state != Evaluations.V1.Evaluation.Types.State.Succeeded ? null : new EvaluationResult
        {
            Split = "validation",
            Model = new ModelQuality { Loss = Loss, Perplexity = Math.Exp(Loss), TokenCount = 99 },
        },
    };
}
