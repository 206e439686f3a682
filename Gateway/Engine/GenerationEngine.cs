using LlmPipeline.Gateway.Catalogue;
using LlmPipeline.Gateway.Telemetry;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Gateway.Engine;

/// <summary>
/// Computes answers on one thread of its own, since a network may not be used by two: the active ones take turns, a token each,
/// so that a long answer does not hold up a short one. Requests beyond them wait in a bounded queue.
/// </summary>
internal sealed partial class GenerationEngine(
    ModelCatalogue catalogue, GatewayMetrics metrics, IOptions<GatewayOptions> options, TimeProvider time,
    IHostApplicationLifetime lifetime, ILogger<GenerationEngine> logger)
    : IHostedService, IDisposable
{
    private readonly Lock _lock = new();
    private readonly List<TextGeneration> _waiting = [];
    private readonly List<TextGeneration> _active = [];
    private readonly AutoResetEvent _wake = new(false);
    private Thread? _thread;
    private CancellationTokenRegistration _stopNotice;
    private long _stopAt = long.MaxValue;
    private bool _ended;
    private int _admitted;
    private double _secondsPerAnswer = 1;

    /// <summary>Requests waiting and being answered.</summary>
    public int AdmittedCount => Volatile.Read(ref _admitted);

    /// <summary>Begins an answer. The caller reads and disposes it.</summary>
    /// <exception cref="GatewayException">A parameter is out of range, there is no such model, or the queue is full.</exception>
    public async Task<TextGeneration> StartAsync(GenerationParameters parameters, CancellationToken cancellationToken)
    {
        var settings = options.Value;
        parameters.Validate(settings);
        var limit = time.GetUtcNow() + TimeSpan.FromSeconds(settings.MaxSeconds);
        if (parameters.Deadline > limit)
        {
            parameters = parameters with { Deadline = limit };
        }

        Admit(settings);
        LoadedModel? model = null;
        GenerationTelemetry? telemetry = null;
        try
        {
            model = await catalogue.AcquireAsync(parameters.Model, cancellationToken);
            telemetry = metrics.Begin(parameters, model.Version);
            var generation = new TextGeneration(model, parameters, telemetry, Leave, cancellationToken);
            Enqueue(generation);
            return generation;
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

    private void Enqueue(TextGeneration generation)
    {
        lock (_lock)
        {
            if (!_ended)
            {
                _waiting.Add(generation);
                _wake.Set();
                return;
            }
        }

        generation.Abandon();
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
        var generation = _active[index];
        try
        {
            if (generation.Step(time.GetUtcNow()))
            {
                return;
            }
        }
        catch (Exception exception)
        {
            AnswerFailed(exception);
        }

        _active.RemoveAt(index);
        _secondsPerAnswer += 0.1 * (generation.Elapsed.TotalSeconds - _secondsPerAnswer);
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
