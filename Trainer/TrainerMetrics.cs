using System.Diagnostics.Metrics;

namespace LlmPipeline.Trainer;

/// <summary>Instruments of the trainer; the meter is <c>LlmPipeline.Trainer</c>.</summary>
internal sealed class TrainerMetrics
{
    /// <summary>Name of the meter and of the activity source.</summary>
    public const string Name = "LlmPipeline.Trainer";

    private readonly Gauge<double> _loss;
    private readonly Gauge<double> _validationLoss;
    private readonly Gauge<double> _learningRate;
    private readonly Gauge<double> _tokensPerSecond;
    private readonly Gauge<int> _workers;
    private readonly Counter<long> _tokens;
    private readonly Counter<long> _steps;
    private readonly Counter<long> _abortedSteps;
    private readonly Counter<long> _exchangeBytes;
    private readonly Counter<long> _checkpoints;
    private readonly Histogram<double> _stepDuration;
    private readonly Histogram<double> _phaseDuration;
    private readonly Histogram<double> _checkpointDuration;

    /// <summary>Makes the instruments.</summary>
    public TrainerMetrics(IMeterFactory factory)
    {
        var meter = factory.Create(Name);
        _loss = meter.CreateGauge<double>("llmpipeline.train.loss", "{nat}", "Training loss of the latest step, per token.");
        _validationLoss = meter.CreateGauge<double>("llmpipeline.train.validation_loss", "{nat}", "Latest validation loss, per token.");
        _learningRate = meter.CreateGauge<double>("llmpipeline.train.learning_rate", "1", "Learning rate of the latest step.");
        _tokensPerSecond = meter.CreateGauge<double>("llmpipeline.train.tokens_per_second", "{token}/s", "Throughput of the latest step, over all workers.");
        _workers = meter.CreateGauge<int>("llmpipeline.train.workers", "{worker}", "Workers in the present epoch.");
        _tokens = meter.CreateCounter<long>("llmpipeline.train.tokens", "{token}", "Tokens this worker has computed gradients for, in steps that count.");
        _steps = meter.CreateCounter<long>("llmpipeline.train.steps", "{step}", "Steps done.");
        _abortedSteps = meter.CreateCounter<long>("llmpipeline.train.broken_epochs", "{epoch}", "Epochs that ended with a broken ring.");
        _exchangeBytes = meter.CreateCounter<long>("llmpipeline.train.exchange.bytes", "By", "Bytes of gradients sent to the next worker.");
        _checkpoints = meter.CreateCounter<long>("llmpipeline.train.checkpoints", "{checkpoint}", "Checkpoints committed.");
        _stepDuration = meter.CreateHistogram<double>("llmpipeline.train.step.duration", "s", "Time of a step.");
        _phaseDuration = meter.CreateHistogram<double>("llmpipeline.train.phase.duration", "s", "Time of a phase of a step: data, forward_backward, exchange, optimizer.");
        _checkpointDuration = meter.CreateHistogram<double>("llmpipeline.train.checkpoint.duration", "s", "Time to write a checkpoint.");
    }

    /// <summary>A step that counts.</summary>
    /// <param name="loss">Nats per token.</param>
    /// <param name="learningRate">Its learning rate.</param>
    /// <param name="ownTokens">Tokens this worker computed.</param>
    /// <param name="allTokens">Tokens of the whole step.</param>
    /// <param name="exchangeBytes">Bytes sent.</param>
    /// <param name="times">Its phases.</param>
    public void StepDone(double loss, double learningRate, long ownTokens, long allTokens, long exchangeBytes, in Worker.StepTimes times)
    {
        _loss.Record(loss);
        _learningRate.Record(learningRate);
        _tokens.Add(ownTokens);
        _steps.Add(1);
        _exchangeBytes.Add(exchangeBytes);
        _stepDuration.Record(times.Total.TotalSeconds);
        _tokensPerSecond.Record(allTokens / Math.Max(1e-9, times.Total.TotalSeconds));
        Phase("data", times.Data);
        Phase("forward_backward", times.ForwardBackward);
        Phase("exchange", times.Exchange);
        Phase("optimizer", times.Optimizer);
    }

    /// <summary>A validation.</summary>
    public void Validated(double loss) => _validationLoss.Record(loss);

    /// <summary>An epoch begins.</summary>
    public void EpochStarted(int workers) => _workers.Record(workers);

    /// <summary>An epoch ended with a broken ring.</summary>
    public void EpochBroken() => _abortedSteps.Add(1);

    /// <summary>A checkpoint was committed.</summary>
    public void CheckpointWritten(TimeSpan duration)
    {
        _checkpoints.Add(1);
        _checkpointDuration.Record(duration.TotalSeconds);
    }

    private void Phase(string name, TimeSpan duration) => _phaseDuration.Record(duration.TotalSeconds, new KeyValuePair<string, object?>("phase", name));
}
