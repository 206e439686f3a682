using LlmPipeline.Gateway.Catalogue;
using LlmPipeline.Gateway.Telemetry;
using LlmPipeline.Models;
using LlmPipeline.Text;

namespace LlmPipeline.Gateway.Engine;

/// <summary>What was found of some texts.</summary>
/// <param name="Probabilities">Of each text, one number a class, in the order of <see cref="Labels"/>.</param>
/// <param name="Labels">Names of the classes.</param>
/// <param name="TokenCount">Tokens of all texts, also those that did not fit the context.</param>
internal sealed record ClassificationResult(IReadOnlyList<double[]> Probabilities, IReadOnlyList<string> Labels, int TokenCount)
{
    /// <summary>The likeliest class of a text; of equals the first.</summary>
    public string Likeliest(double[] probabilities) => Labels[probabilities.IndexOf(probabilities.Max())];
}

/// <summary>The classes of some texts: a text a step.</summary>
internal sealed class TextClassification : Answer
{
    private readonly TaskCompletionSource<ClassificationResult> _result = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly LanguageModel _model;
    private readonly IReadOnlyList<string> _labels;
    private readonly int[][] _inputs;
    private readonly List<double[]> _probabilities = [];

    /// <param name="model">A classifier; a reference that this object releases at the end.</param>
    /// <param name="parameters">Validated.</param>
    /// <param name="telemetry">Its span and numbers.</param>
    /// <param name="onEnd">Called once, when the model is not needed any more.</param>
    /// <param name="cancellationToken">The caller's.</param>
    public TextClassification(LoadedModel model, ClassificationParameters parameters, AnswerTelemetry telemetry, Action onEnd, CancellationToken cancellationToken)
        : base(model, parameters.Deadline, telemetry, onEnd, cancellationToken)
    {
        _model = (LanguageModel)model.Model;
        _labels = model.Version.Labels!;
        _inputs = [.. parameters.Inputs.Select(text => model.Tokenizer.Encode(text))];
    }

    /// <inheritdoc/>
    protected override (int Input, int Output) Tokens => (_inputs.Sum(ids => ids.Length), 0);

    /// <inheritdoc/>
    protected override string Progress => $"after {_probabilities.Count} of {_inputs.Length} texts. Send fewer or shorter texts";

    /// <summary>The result, when all texts are done.</summary>
    /// <exception cref="GatewayException">The time was up.</exception>
    public Task<ClassificationResult> ReadAsync(CancellationToken cancellationToken) => _result.Task.WaitAsync(cancellationToken);

    /// <inheritdoc/>
    protected override string? Compute()
    {
        var scores = new double[_labels.Count];
        _model.ClassifyDocument(_inputs[_probabilities.Count], scores);
        for (var k = 0; k < scores.Length; k++)
        {
            scores[k] = Math.Exp(scores[k]);
        }

        _probabilities.Add(scores);
        return _probabilities.Count == _inputs.Length ? "stop" : null;
    }

    /// <inheritdoc/>
    protected override void Close(Exception? exception)
    {
        if (exception is null && _probabilities.Count == _inputs.Length)
        {
            _result.TrySetResult(new ClassificationResult(_probabilities, _labels, Tokens.Input));
        }
        else
        {
            _result.TrySetException(exception ?? new OperationCanceledException());
        }
    }
}
