using System.Threading.Channels;
using LlmPipeline.Gateway.Catalogue;
using LlmPipeline.Gateway.Telemetry;
using LlmPipeline.Text;

namespace LlmPipeline.Gateway.Engine;

/// <summary>A piece of an answer; the last one says how it ended.</summary>
internal readonly record struct TextPiece(string Text, GenerationEnd? End);

/// <summary>How an answer ended.</summary>
/// <param name="FinishReason">"stop" or "length".</param>
/// <param name="PromptTokens">Tokens of the prompt, also those that did not fit the context.</param>
/// <param name="CompletionTokens">Tokens generated, those of a stop text included.</param>
internal sealed record GenerationEnd(string FinishReason, int PromptTokens, int CompletionTokens);

/// <summary>The continuation of a prompt: a token a step, read as they come.</summary>
internal sealed class TextGeneration : Answer
{
    private readonly Channel<TextPiece> _output = Channel.CreateUnbounded<TextPiece>(new() { SingleReader = true, SingleWriter = false });
    private readonly LoadedModel _model;
    private readonly GenerationParameters _parameters;
    private readonly int[] _prompt;
    private readonly StreamingDecoder _decoder;
    private readonly StopFilter _stops;
    private readonly AnswerTelemetry _telemetry;
    private IEnumerator<int>? _ids;
    private int _count;

    /// <param name="model">A reference that this object releases at the end.</param>
    /// <param name="parameters">Validated.</param>
    /// <param name="telemetry">Its span and numbers.</param>
    /// <param name="onEnd">Called once, when the model is not needed any more.</param>
    /// <param name="cancellationToken">The caller's.</param>
    public TextGeneration(LoadedModel model, GenerationParameters parameters, AnswerTelemetry telemetry, Action onEnd, CancellationToken cancellationToken)
        : base(model, parameters.Deadline, telemetry, onEnd, cancellationToken)
    {
        _model = model;
        _parameters = parameters;
        _prompt = model.Tokenizer.Encode(parameters.Prompt);
        _decoder = new StreamingDecoder(model.Tokenizer, _prompt is [.., var last] ? last : -1);
        _stops = new StopFilter(parameters.Stop);
        _telemetry = telemetry;
    }

    /// <inheritdoc/>
    protected override (int Input, int Output) Tokens => (_prompt.Length, _count);

    /// <inheritdoc/>
    protected override string Progress => $"after {_count} tokens. Ask for fewer tokens";

    /// <summary>The pieces, in order; the last one has an end.</summary>
    /// <exception cref="GatewayException">The time was up.</exception>
    public IAsyncEnumerable<TextPiece> ReadAsync(CancellationToken cancellationToken) => _output.Reader.ReadAllAsync(cancellationToken);

    /// <inheritdoc/>
    protected override string? Compute()
    {
        _ids ??= Models.Generation.Generate(
            _model.Model, _prompt, (int)_parameters.MaxTokens, _parameters.ToSampling(), CancellationToken.None).GetEnumerator();
        return _ids.MoveNext() ? Emit(_ids.Current) : Complete("stop");
    }

    /// <inheritdoc/>
    protected override void Free() => _ids?.Dispose();

    /// <inheritdoc/>
    protected override void Close(Exception? exception) => _output.Writer.TryComplete(exception);

    private string? Emit(int id)
    {
        _count++;
        if (_count == 1)
        {
            _telemetry.FirstToken();
        }

        var text = _stops.Append(_decoder.Append(id));
        if (_stops.Stopped)
        {
            return Complete("stop", text);
        }

        if (_count == _parameters.MaxTokens)
        {
            return Complete("length", text);
        }

        if (text.Length > 0)
        {
            _output.Writer.TryWrite(new TextPiece(text, null));
        }

        return null;
    }

    private string Complete(string finishReason, string text = "")
    {
        if (!_stops.Stopped)
        {
            text += _stops.Append(_decoder.Finish());
            text += _stops.Finish();
            finishReason = _stops.Stopped ? "stop" : finishReason;
        }

        _output.Writer.TryWrite(new TextPiece(text, new GenerationEnd(finishReason, _prompt.Length, _count)));
        return finishReason;
    }
}
