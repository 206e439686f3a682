using LlmPipeline.Models;
using LlmPipeline.Trainer.Collectives;
using static TorchSharp.torch;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// A share of a step that stays on the device. Its micro-batches are queued one after the other, and their losses are read together;
/// a worker alone reads the norm of its gradient with them, and one of several brings its gradient to the host, for the exchange.
/// </summary>
internal sealed partial class TrainingLoop
{
    // The update is done where the network computes: in plain mode where all members compute on devices of their own.
    private bool _updatesOnDevice;

    // Of the gradient of a worker alone, which stays on the device.
    private double _deviceNorm;

    private bool KeepsGradients => _updatesOnDevice && _allReduce is null;

    /// <summary>Sets this worker's share of the gradient to 0.</summary>
    private void ZeroGradients(bool hasShare)
    {
        if (_updatesOnDevice && hasShare)
        {
            // What the host has of it is overwritten, or not looked at.
            using var zeroed = _replica.Model.Parameters.DeviceGradients.zero_();
        }
        else
        {
            _replica.Model.Parameters.ZeroGradients();
        }
    }

    /// <summary>As <see cref="ComputeGradients"/>, for gradients that add up on the device.</summary>
    private void ComputeGradientsOnDevice(long step, int begin, int end)
    {
        if (begin == end)
        {
            return;
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var parameters = _replica.Model.Parameters;
        var scale = (float)(State.LossScaler?.Scale ?? 1);
        var results = new List<Tensor>();
        for (var microBatch = begin; microBatch < end; microBatch++)
        {
            ThrowIfOver();
            _data.ReadMicroBatch(step + State.Guard.DataOffset, microBatch);
            _time.Lap(StepPhase.Data);
            results.Add(_replica.Model.QueueGradients(
                _data.Inputs, _data.Targets, _data.Rows, scale / _data.PredictionsPerStep, Seeds.Derive(_settings.Seed, "dropout", step, microBatch),
                microBatch == end - 1 ? 1 / scale : 1));
            _time.Lap(StepPhase.ForwardBackward);
        }

        if (KeepsGradients)
        {
            results.Add(parameters.DeviceGradients.norm().to(float64));
        }
        else
        {
            parameters.BeginDownload();
        }

        // The one wait of a step.
        var numbers = stack(results).cpu().data<double>().ToArray();
        _deviceNorm = numbers[^1];
        var fits = KeepsGradients ? double.IsFinite(_deviceNorm) : _gradients.AddLast(0, parameters.Length, float.PositiveInfinity);
        var losses = numbers.AsSpan(0, end - begin);
        for (var i = 0; i < losses.Length; i++)
        {
            _gradients.Set(FirstLoss + begin + i, fits || i < losses.Length - 1 ? (float)losses[i] : float.NaN);
        }

        if (losses.IndexOfAnyExceptInRange(double.MinValue, double.MaxValue) >= 0)
        {
            _gradients.AddCount(BadLosses, 1);
        }
        else if (!fits)
        {
            _gradients.AddCount(BadGradients, 1);
        }

        _time.Lap(StepPhase.ForwardBackward);
    }

    /// <summary>Throws where the step will come to nothing: the ring is broken, or the process has to exit.</summary>
    private void ThrowIfOver()
    {
        if (_place.Ring is GrpcRingTransport { IsBroken: true } broken)
        {
            throw broken.Broken();
        }

        if (_control.ExitingNow)
        {
            throw new StepAbandonedException();
        }
    }
}
