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

/// <summary>
/// One answer in the making. The engine's thread computes it, the caller reads it. Disposing it stops the computation
/// within a token.
/// </summary>
internal sealed class TextGeneration : IAsyncDisposable
{
    private const int Waiting = 0;
    private const int Running = 1;
    private const int Ended = 2;

    private readonly Channel<TextPiece> _output = Channel.CreateUnbounded<TextPiece>(new() { SingleReader = true, SingleWriter = false });
    private readonly CancellationToken _caller;
    private readonly LoadedModel _model;
    private readonly GenerationParameters _parameters;
    private readonly int[] _prompt;
    private readonly StreamingDecoder _decoder;
    private readonly StopFilter _stops;
    private readonly GenerationTelemetry _telemetry;
    private readonly Action _onEnd;
    private IEnumerator<int>? _ids;
    private int _state = Waiting;
    private int _count;
    private volatile bool _left;

    /// <param name="model">A reference that this object releases at the end.</param>
    /// <param name="parameters">Validated.</param>
    /// <param name="telemetry">Its span and numbers.</param>
    /// <param name="onEnd">Called once, when the model is not needed any more.</param>
    /// <param name="cancellationToken">The caller's.</param>
    public TextGeneration(
        LoadedModel model, GenerationParameters parameters, GenerationTelemetry telemetry, Action onEnd, CancellationToken cancellationToken)
    {
        _model = model;
        _parameters = parameters;
        _prompt = model.Tokenizer.Encode(parameters.Prompt);
        _decoder = new StreamingDecoder(model.Tokenizer, _prompt is [.., var last] ? last : -1);
        _stops = new StopFilter(parameters.Stop);
        _telemetry = telemetry;
        _onEnd = onEnd;
        _caller = cancellationToken;
    }

    public ModelVersion Version => _model.Version;

    /// <summary>Time since the request came.</summary>
    public TimeSpan Elapsed => _telemetry.Elapsed;

    private bool IsLeft => _left || _caller.IsCancellationRequested;

    /// <summary>The pieces, in order; the last one has an end.</summary>
    /// <exception cref="GatewayException">The time was up.</exception>
    public IAsyncEnumerable<TextPiece> ReadAsync(CancellationToken cancellationToken) => _output.Reader.ReadAllAsync(cancellationToken);

    /// <summary>Engine only: whether it may still wait for its turn; ends it when the caller has left or the time is up.</summary>
    public bool MayWait(DateTimeOffset now)
    {
        if (IsLeft || now >= _parameters.Deadline)
        {
            Stop(now);
        }

        return Volatile.Read(ref _state) == Waiting;
    }

    /// <summary>Engine only: its turn begins; false when it has ended in the meantime.</summary>
    public bool TryBegin() => Interlocked.CompareExchange(ref _state, Running, Waiting) == Waiting;

    /// <summary>Engine only: computes one token; false when the answer has ended.</summary>
    public bool Step(DateTimeOffset now)
    {
        if (IsLeft || now >= _parameters.Deadline)
        {
            Stop(now);
            return false;
        }

        try
        {
            _ids ??= Models.Generation.Generate(
                _model.Model, _prompt, (int)_parameters.MaxTokens, _parameters.ToSampling(), CancellationToken.None).GetEnumerator();
            return _ids.MoveNext() ? Emit(_ids.Current) : Complete("stop");
        }
        catch (Exception exception)
        {
            End("error", exception);
            return false;
        }
    }

    /// <summary>Engine only: ends it because the process stops.</summary>
    public void Abandon() => End("error", new GatewayException(GatewayErrorKind.Unavailable, "The Gateway is shutting down. Try again in a moment."));

    public ValueTask DisposeAsync()
    {
        _left = true;

        // One that still waits leaves at once; one that runs is ended by the engine before its next token.
        if (Interlocked.CompareExchange(ref _state, Ended, Waiting) == Waiting)
        {
            Release("cancelled", null);
        }

        return ValueTask.CompletedTask;
    }

    private bool Emit(int id)
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

        return true;
    }

    private bool Complete(string finishReason, string text = "")
    {
        if (!_stops.Stopped)
        {
            text += _stops.Append(_decoder.Finish());
            text += _stops.Finish();
            finishReason = _stops.Stopped ? "stop" : finishReason;
        }

        _output.Writer.TryWrite(new TextPiece(text, new GenerationEnd(finishReason, _prompt.Length, _count)));
        End(finishReason, null);
        return false;
    }

    private void Stop(DateTimeOffset now)
    {
        if (now >= _parameters.Deadline && !IsLeft)
        {
            End("timeout", new GatewayException(GatewayErrorKind.TimedOut, $"The time for this request was up after {_count} tokens. Ask for fewer tokens, or allow more time."));
        }
        else
        {
            End("cancelled", new OperationCanceledException());
        }
    }

    private void End(string outcome, Exception? exception)
    {
        if (Interlocked.Exchange(ref _state, Ended) != Ended)
        {
            Release(outcome, exception);
        }
    }

    private void Release(string outcome, Exception? exception)
    {
        _ids?.Dispose();
        _model.Release();
        _onEnd();
        _telemetry.End(outcome, _prompt.Length, _count, exception);
        _output.Writer.TryComplete(exception);
    }
}
