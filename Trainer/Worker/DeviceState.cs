using LlmPipeline.Models;
using LlmPipeline.Trainer.Optimizers;
using static TorchSharp.torch;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// A replica that is updated on the device that its network computes on: neither gradients nor parameters go to the host and back with
/// a step. The host's buffers are made what they stand for when somebody wants to read them.
/// </summary>
/// <param name="model">The network.</param>
/// <param name="optimizer">The update rule.</param>
/// <param name="host">The host's buffers of <see cref="Optimizer.StateNames"/>.</param>
internal sealed class DeviceState(LanguageModel model, Optimizer optimizer, IReadOnlyList<float[]> host) : IDisposable
{
    private readonly List<Tensor> _state = [.. host.Select(buffer => zeros(buffer.Length, float32, model.Device).DetachFromDisposeScope())];
    private bool _hostIsOld;
    private bool _deviceIsOld = true;

    /// <summary>One step with the gradients that are on the device.</summary>
    public void Update(long count, double learningRate, float gradientFactor)
    {
        if (_deviceIsOld)
        {
            Copy((device, buffer) => device.copy_(buffer));
            _deviceIsOld = false;
        }

        var parameters = model.Parameters;
        optimizer.Update(count, learningRate, gradientFactor, parameters.DecayedLength, parameters.DeviceValues, parameters.DeviceGradients, _state);
        _hostIsOld = true;
    }

    /// <summary>Makes the host's buffers what the device has, and waits.</summary>
    public void ToHost()
    {
        if (_hostIsOld)
        {
            model.Parameters.DownloadValues();
            Copy((device, buffer) => buffer.copy_(device));
            _hostIsOld = false;
        }
    }

    /// <summary>The host's optimizer state is the one that counts. Parameters are uploaded by whoever changed them.</summary>
    public void HostChanged() => (_hostIsOld, _deviceIsOld) = (false, true);

    public void Dispose() => _state.ForEach(tensor => tensor.Dispose());

    private void Copy(Action<Tensor, Tensor> copy)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        for (var i = 0; i < host.Count; i++)
        {
            copy(_state[i], frombuffer(host[i], float32));
        }
    }
}
