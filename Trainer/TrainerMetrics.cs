using System.Diagnostics.Metrics;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer;

/// <summary>Instruments of the trainer; the meter is <c>LlmPipeline.Trainer</c>.</summary>
internal sealed class TrainerMetrics
{
    /// <summary>Name of the meter and of the activity source.</summary>
    public const string Name = "LlmPipeline.Trainer";

    private readonly Gauge<double> _loss;
    private readonly Gauge<double> _validationLoss;
    private readonly Gauge<double> _learningRate;
    private readonly Gauge<double> _gradientNorm;
    private readonly Gauge<double> _tokensPerSecond;
    private readonly Gauge<double> _utilization;
    private readonly Gauge<long> _memory;
    private readonly Gauge<long> _deviceMemory;
    private readonly Gauge<int> _workers;
    private readonly Counter<long> _tokens;
    private readonly Counter<long> _steps;
    private readonly Counter<long> _abortedSteps;
    private readonly Counter<long> _anomalies;
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
        _gradientNorm = meter.CreateGauge<double>("llmpipeline.train.gradient_norm", "1", "Norm of the gradient of the latest step, before clipping.");
        _utilization = meter.CreateGauge<double>("llmpipeline.train.model_flops_utilization", "1", "Model FLOPS utilization of the latest step.");
        _memory = meter.CreateGauge<long>("llmpipeline.train.memory", "By", "Resident memory of this worker.");
        _deviceMemory = meter.CreateGauge<long>("llmpipeline.train.device_memory", "By", "Memory of this worker's GPU in use, by all processes.");
        _anomalies = meter.CreateCounter<long>("llmpipeline.train.anomalies", "{step}", "Steps that changed nothing, by reason.");
        _tokensPerSecond = meter.CreateGauge<double>("llmpipeline.train.tokens_per_second", "{token}/s", "Throughput of the latest step, over all workers.");
        _workers = meter.CreateGauge<int>("llmpipeline.train.workers", "{worker}", "Workers in the present epoch.");
        _tokens = meter.CreateCounter<long>("llmpipeline.train.tokens", "{token}", "Tokens this worker has computed gradients for, in steps that count.");
        _steps = meter.CreateCounter<long>("llmpipeline.train.steps", "{step}", "Steps done.");
        _abortedSteps = meter.CreateCounter<long>("llmpipeline.train.broken_epochs", "{epoch}", "Epochs that ended with a broken ring.");
        _exchangeBytes = meter.CreateCounter<long>("llmpipeline.train.exchange.bytes", "By", "Bytes of gradients sent to the next worker.");
        _checkpoints = meter.CreateCounter<long>("llmpipeline.train.checkpoints", "{checkpoint}", "Checkpoints committed.");
        _stepDuration = meter.CreateHistogram<double>("llmpipeline.train.step.duration", "s", "Time of a step.");
        _phaseDuration = meter.CreateHistogram<double>("llmpipeline.train.phase.duration", "s", "Time of a phase of a step: data, forward_backward, exchange, optimizer, validation, checkpoint.");
        _checkpointDuration = meter.CreateHistogram<double>("llmpipeline.train.checkpoint.duration", "s", "Time to write a checkpoint.");
    }

    /// <summary>A step that counts.</summary>
    /// <param name="step">Its numbers.</param>
    /// <param name="ownTokens">Tokens this worker computed.</param>
    /// <param name="exchangeBytes">Bytes sent.</param>
    /// <param name="time">Its phases.</param>
    public void StepDone(StepMetrics step, long ownTokens, long exchangeBytes, StepClock time)
    {
        _loss.Record(step.TrainLoss);
        _learningRate.Record(step.LearningRate);
        _gradientNorm.Record(step.GradientNorm);
        _memory.Record(step.MemoryBytes);
        if (step.HasDeviceMemoryBytes)
        {
            _deviceMemory.Record(step.DeviceMemoryBytes);
        }

        _tokensPerSecond.Record(step.TokensPerSecond);
        if (step.HasModelFlopsUtilization)
        {
            _utilization.Record(step.ModelFlopsUtilization);
        }

        if (step.Anomaly.Length > 0)
        {
            _anomalies.Add(1, new KeyValuePair<string, object?>("reason", step.Anomaly));
        }

        _tokens.Add(ownTokens);
        _steps.Add(1);
        _exchangeBytes.Add(exchangeBytes);
        _stepDuration.Record(time.Total.TotalSeconds);
        PhaseDone(StepPhase.Data, time);
        PhaseDone(StepPhase.ForwardBackward, time);
        PhaseDone(StepPhase.Exchange, time);
        PhaseDone(StepPhase.Optimizer, time);
    }

    /// <summary>A phase of the present step is over.</summary>
    public void PhaseDone(StepPhase phase, StepClock time) =>
        _phaseDuration.Record(time[phase].TotalSeconds, new KeyValuePair<string, object?>("phase", NameOf(phase)));

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

    private static string NameOf(StepPhase phase) => phase == StepPhase.ForwardBackward ? "forward_backward" : phase.ToString().ToLowerInvariant();
}
