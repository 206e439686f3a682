using LlmPipeline.Gateway.Catalogue;
using LlmPipeline.Gateway.Telemetry;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Gateway.Engine;

/// <summary>
/// Computes answers on one thread of its own, since a network may not be used by two: the active ones take turns, a token or a text
/// to classify each, so that a long answer does not hold up a short one. Requests beyond them wait in a bounded queue.
/// </summary>
internal sealed partial class GenerationEngine(
    ModelCatalogue catalogue, GatewayMetrics metrics, IOptions<GatewayOptions> options, TimeProvider time,
    IHostApplicationLifetime lifetime, ILogger<GenerationEngine> logger)
    : IHostedService, IDisposable
{
    private readonly Lock _lock = new();
    private readonly List<Answer> _waiting = [];
    private readonly List<Answer> _active = [];
    private readonly AutoResetEvent _wake = new(false);
    private Thread? _thread;
    private CancellationTokenRegistration _stopNotice;
    private long _stopAt = long.MaxValue;
    private bool _ended;
    private int _admitted;
    private double _secondsPerAnswer = 1;

    /// <summary>Requests waiting and being answered.</summary>
    public int AdmittedCount => Volatile.Read(ref _admitted);

    /// <summary>Begins to continue a prompt. The caller reads and disposes the answer.</summary>
    /// <exception cref="GatewayException">A parameter is out of range, there is no such model, it continues no text, or the queue is full.</exception>
    public Task<TextGeneration> StartAsync(GenerationParameters parameters, CancellationToken cancellationToken)
    {
        parameters.Validate(options.Value);
        parameters = parameters with { Deadline = Limited(parameters.Deadline) };
        return BeginAsync(parameters.Model, "text_completion", (model, telemetry) =>
        {
            if (model.Version.Labels is { } labels)
            {
                throw GatewayException.Invalid("model", $"{model.Version.Name} is a classifier (it tells {string.Join(", ", labels.Take(5))}{(labels.Count > 5 ? ", ..." : "")} apart) and continues no text. Send the text to POST /v1/classify, or call Classify over gRPC.");
            }

            telemetry.Tell(parameters);
            return new TextGeneration(model, parameters, telemetry, Leave, cancellationToken);
        }, cancellationToken);
    }

    /// <summary>Begins to classify texts. The caller reads and disposes the answer.</summary>
    /// <exception cref="GatewayException">A parameter is out of range, there is no such model, it has no classes, or the queue is full.</exception>
    public Task<TextClassification> StartAsync(ClassificationParameters parameters, CancellationToken cancellationToken)
    {
        parameters.Validate(options.Value);
        parameters = parameters with { Deadline = Limited(parameters.Deadline) };
        return BeginAsync(parameters.Model, "text_classification", (model, telemetry) => model.Version.Labels is null
            ? throw GatewayException.Invalid("model", $"{model.Version.Name} is no classifier: it continues text (POST /v1/completions, or Generate over gRPC). Fine-tune it on documents with labels to get one.")
            : new TextClassification(model, parameters, telemetry, Leave, cancellationToken), cancellationToken);
    }

    private DateTimeOffset Limited(DateTimeOffset deadline)
    {
        var limit = time.GetUtcNow() + TimeSpan.FromSeconds(options.Value.MaxSeconds);
        return deadline < limit ? deadline : limit;
    }

    private async Task<T> BeginAsync<T>(string name, string operation, Func<LoadedModel, AnswerTelemetry, T> create, CancellationToken cancellationToken)
        where T : Answer
    {
        Admit(options.Value);
        LoadedModel? model = null;
        AnswerTelemetry? telemetry = null;
        try
        {
            model = await catalogue.AcquireAsync(name, cancellationToken);
            telemetry = metrics.Begin(operation, model.Version);
            var answer = create(model, telemetry);
            Enqueue(answer);
            return answer;
        }
        catch (Exception exception)
        {
            telemetry?.End("error", 0, 0, exception);
            model?.Release();
            Leave();
            throw;
        }
    }

    public Task StartAsync(CancellationToken cancellationToken)
    {
        metrics.Observe(this, catalogue);
        _stopNotice = lifetime.ApplicationStopping.Register(() => StopAfter(TimeSpan.FromSeconds(options.Value.StopSeconds)));
        _thread = new Thread(Run) { IsBackground = true, Name = "generation" };
        _thread.Start();
        return Task.CompletedTask;
    }

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        StopAfter(TimeSpan.Zero);
        await Task.Run(() => _thread?.Join(TimeSpan.FromSeconds(10)), CancellationToken.None);
    }

    public void Dispose()
    {
        _stopNotice.Dispose();
        _wake.Dispose();
    }

    /// <summary>Number of requests that wait for their turn.</summary>
    public int WaitingCount
    {
        get
        {
            lock (_lock)
            {
                return _waiting.Count;
            }
        }
    }

    private void Admit(GatewayOptions settings)
    {
        if (Interlocked.Increment(ref _admitted) > settings.MaxActive + settings.MaxQueue)
        {
            Leave();
            metrics.Rejected();
            var seconds = Math.Clamp(Math.Ceiling(_secondsPerAnswer * (settings.MaxActive + settings.MaxQueue) / settings.MaxActive), 1, 60);
            throw new GatewayException(
                GatewayErrorKind.QueueFull,
                $"All {settings.MaxActive + settings.MaxQueue} places of the queue are taken. Try again in {seconds} s.",
                retryAfter: TimeSpan.FromSeconds(seconds));
        }
    }

    /// <summary>Lets what runs go on for so long; what is not done by then is ended with an error.</summary>
    private void StopAfter(TimeSpan grace)
    {
        Volatile.Write(ref _stopAt, Math.Min(Volatile.Read(ref _stopAt), (time.GetUtcNow() + grace).UtcTicks));
        _wake.Set();
    }

    private void Leave() => Interlocked.Decrement(ref _admitted);

    private void Enqueue(Answer answer)
    {
        lock (_lock)
        {
            if (!_ended)
            {
                _waiting.Add(answer);
                _wake.Set();
                return;
            }
        }

        answer.Abandon();
    }

    private void Run()
    {
        while (time.GetUtcNow().UtcTicks < Volatile.Read(ref _stopAt))
        {
            TakeFromQueue();
            if (_active.Count == 0)
            {
                _wake.WaitOne();
                continue;
            }

            for (var i = _active.Count - 1; i >= 0; i--)
            {
                StepOne(i);
            }
        }

        _active.ForEach(g => g.Abandon());
        lock (_lock)
        {
            _ended = true;
            _waiting.ForEach(g => g.Abandon());
        }
    }

    private void StepOne(int index)
    {
        var answer = _active[index];
        try
        {
            if (answer.Step(time.GetUtcNow()))
            {
                return;
            }
        }
        catch (Exception exception)
        {
            AnswerFailed(exception);
        }

        _active.RemoveAt(index);
        _secondsPerAnswer += 0.1 * (answer.Elapsed.TotalSeconds - _secondsPerAnswer);
    }

    private void TakeFromQueue()
    {
        var now = time.GetUtcNow();
        lock (_lock)
        {
            _waiting.RemoveAll(g => !g.MayWait(now));
            while (_active.Count < options.Value.MaxActive && _waiting.Count > 0)
            {
                var next = _waiting[0];
                _waiting.RemoveAt(0);
                if (next.TryBegin())
                {
                    _active.Add(next);
                }
            }
        }
    }

    [LoggerMessage(4010, LogLevel.Error, "An answer ended with an unexpected error; the others go on")]
    private partial void AnswerFailed(Exception exception);
}
