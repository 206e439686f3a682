using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Worker;

/// <summary>Validation.</summary>
internal sealed partial class TrainingLoop
{
    private ExchangeBuffer? _validation;

    /// <param name="last">Training ends with this step.</param>
    /// <param name="missing">Some member has not seen a validation of this step.</param>
    private bool ValidationDue(bool last, bool missing) =>
        missing && _data.ValidationSequences > 0 && State.Step > 0 && (last || State.Step % _settings.ValidationInterval == 0);

    /// <summary>Measures the validation loss, and writes samples; both go into the step's metrics.</summary>
    /// <returns>Why training is to go back: the step's update broke the weights. Null for a validation as usual.</returns>
    private Anomaly? Validate(StepMetrics? done)
    {
        var loss = ValidationLoss();
        if (!double.IsFinite(loss))
        {
            _time.Lap(StepPhase.Validation);
            var anomaly = new Anomaly(ErrorReasons.LossNotFinite, "the validation loss after it is not finite", "Lower optimizer.learning_rate or set optimizer.clip_norm");
            RequireFew(State.Step, anomaly);
            return anomaly;
        }

        if (done is not null)
        {
            done.ValidationLoss = loss;
            if (_place.Rank == 0 && WriteSamples is not null)
            {
                TakeArrived(isNeeded: true);
                done.Samples.Clear();
                done.Samples.AddRange(WriteSamples());
            }

            Remember(done);
        }

        _time.Lap(StepPhase.Validation);
        _metrics.PhaseDone(StepPhase.Validation, _time);
        return null;
    }

    /// <summary>Nats per token: each worker takes a share of the batches, all get the same sum.</summary>
    private double ValidationLoss()
    {
        using var activity = _trace.Start("validate");
        while (true)
        {
            var batches = _data.ValidationBatches;
            if (_validation?.Length != (2 * batches) + 1)
            {
                _validation = new ExchangeBuffer(0, (2 * batches) + 1);
            }

            _validation.Clear();
            try
            {
                MeasureShare(_validation, batches);
            }
            catch (Exception exception) when (OutOfMemory.Is(exception) && _settings.MicroBatchSize > 1)
            {
                LogOutOfMemory(_logger, exception, State.Step, State.Run, _settings.MicroBatchSize);
                _validation.AddCount(2 * batches, 1);
            }

            Exchange(State.Step, Buckets.Validation, _validation);
            if (_validation.Count(2 * batches) > 0)
            {
                ReduceMicroBatch(State.Step);
                continue;
            }

            var sum = 0.0;
            for (var batch = 0; batch < batches; batch++)
            {
                sum += _validation.Double(2 * batch);
            }

            var loss = sum / _data.ValidationTokens;
            activity?.SetTag("step", State.Step).SetTag("loss", loss);
            if (!double.IsFinite(loss))
            {
                return loss;
            }

            var counts = State.ValidationStep != State.Step && State.Step % _settings.ValidationInterval == 0;
            _replica.State = (counts ? State.Counted(loss, _settings.MinImprovement) : State).Validated(loss);
            _metrics.Validated(loss);
            return loss;
        }
    }

    private void MeasureShare(ExchangeBuffer validation, int batches)
    {
        var (begin, end) = _shares.Of(_place.Rank, batches);
        for (var batch = begin; batch < end; batch++)
        {
            _data.ReadValidationBatch(batch);
            validation.Set(2 * batch, _replica.Model.Evaluate(_data.Inputs, _data.Targets, _data.Rows).LossSum);
        }
    }
}
