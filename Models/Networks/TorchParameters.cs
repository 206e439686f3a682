using TorchSharp;

namespace LlmPipeline.Models.Networks;

/// <summary>
/// Flat buffers that are torch tensors. On the CPU the spans and the network share memory; on another device the spans are a
/// mirror on the host. Autograd adds to the views of the gradient buffer in place.
/// </summary>
internal sealed class TorchParameters : FlatParameters, IDisposable
{
    private readonly torch.Tensor _hostValues;
    private readonly torch.Tensor _hostGradients;
    private readonly torch.Tensor _values;
    private readonly torch.Tensor _gradients;
    private readonly torch.Tensor? _hostFrozen;
    private readonly torch.Tensor? _frozen;
    private readonly int _frozenLength;
    private readonly bool _mirrored;
    private readonly Dictionary<string, torch.Tensor> _tensors = [];
    private readonly nint _valuesAddress;
    private readonly nint _gradientsAddress;
    private readonly nint _frozenAddress;
    private bool _disposed;

    public TorchParameters(ParameterPlaces places, torch.Device device)
    {
        var length = places.Length;
        Views = places.Views;
        FrozenViews = places.FrozenViews;
        Length = length;
        DecayedLength = places.DecayedLength;
        ParameterCount = Views.Sum(v => (long)v.Length);
        _mirrored = device.type != DeviceType.CPU;

        using var scope = torch.NewDisposeScope();
        using var noGrad = torch.no_grad();
        _hostValues = Host(length);
        _hostGradients = Host(length);
        _values = _mirrored ? _hostValues.to(device).DetachFromDisposeScope() : _hostValues;
        _gradients = _mirrored ? _hostGradients.to(device).DetachFromDisposeScope() : _hostGradients;
        _valuesAddress = AddressOf(_hostValues);
        _gradientsAddress = AddressOf(_hostGradients);
        if (places.FrozenLength > 0)
        {
            _frozenLength = places.FrozenLength;
            _hostFrozen = Host(_frozenLength);
            _frozen = _mirrored ? _hostFrozen.to(device).DetachFromDisposeScope() : _hostFrozen;
            _frozenAddress = AddressOf(_hostFrozen);
        }

        foreach (var view in FrozenViews)
        {
            _tensors.Add(view.Name, _frozen!.narrow(0, view.Offset, view.Length).view([.. view.Shape]).detach().DetachFromDisposeScope());
        }

        foreach (var view in Views)
        {
            long[] shape = [.. view.Shape];
            var tensor = _values.narrow(0, view.Offset, view.Length).view(shape).detach().requires_grad_(true);
            tensor.grad = _gradients.narrow(0, view.Offset, view.Length).view(shape);
            _tensors.Add(view.Name, tensor.DetachFromDisposeScope());
        }
    }

    public override int Length { get; }

    public override int DecayedLength { get; }

    public override long ParameterCount { get; }

    public override IReadOnlyList<ParameterView> Views { get; }

    public override IReadOnlyList<ParameterView> FrozenViews { get; }

    public override unsafe Span<float> FrozenValues
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return new((float*)_frozenAddress, _frozenLength);
        }
    }

    public override unsafe Span<float> Values
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return new((float*)_valuesAddress, Length);
        }
    }

    public override unsafe Span<float> Gradients
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return new((float*)_gradientsAddress, Length);
        }
    }

    /// <summary>The tensor of a name, or null when the network has none (a bias of a network without biases).</summary>
    public torch.Tensor? Find(string name) => _tensors.GetValueOrDefault(name);

    public override torch.Tensor DeviceValues => _values;

    public override torch.Tensor DeviceGradients => _gradients;

    public override void ZeroGradients()
    {
        Gradients.Clear();
        if (_mirrored)
        {
            using var zeroed = _gradients.zero_();
        }
    }

    /// <summary>Multiplies all gradients, on the device.</summary>
    public void ScaleGradients(float factor)
    {
        using var noGrad = torch.no_grad();
        using var scalar = factor.ToScalar();
        _gradients.mul_(scalar);
    }

    public override void DownloadGradients()
    {
        BeginDownload();
        if (_mirrored)
        {
            torch.cuda.synchronize(_gradients.device);
        }
    }

    public override void BeginDownload()
    {
        if (_mirrored)
        {
            using var noGrad = torch.no_grad();
            _hostGradients.copy_(_gradients, true);
        }
    }

    public override void UploadGradients()
    {
        if (_mirrored)
        {
            using var noGrad = torch.no_grad();
            _gradients.copy_(_hostGradients);
        }
    }

    public override void DownloadValues()
    {
        if (_mirrored)
        {
            using var noGrad = torch.no_grad();
            _hostValues.copy_(_values);
        }
    }

    public override void UploadValues()
    {
        if (_mirrored)
        {
            using var noGrad = torch.no_grad();
            _values.copy_(_hostValues, true);
        }
    }

    public override void UploadFrozenValues()
    {
        if (_mirrored && _frozen is not null)
        {
            using var noGrad = torch.no_grad();
            _frozen.copy_(_hostFrozen!);
        }
    }

    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        foreach (var tensor in _tensors.Values)
        {
            tensor.Dispose();
        }

        _hostValues.Dispose();
        _hostGradients.Dispose();
        _hostFrozen?.Dispose();
        if (_mirrored)
        {
            _frozen?.Dispose();
            _values.Dispose();
            _gradients.Dispose();
        }
    }

    // Page-locked beside a device, which then copies by itself.
    private torch.Tensor Host(long length)
    {
        var buffer = torch.zeros(length, torch.float32);
        return (_mirrored ? buffer.pin_memory() : buffer).DetachFromDisposeScope();
    }

    // Through a view of 1 element: Tensor.bytes stops at 2 GB.
    private static unsafe nint AddressOf(torch.Tensor buffer)
    {
        fixed (byte* address = buffer.narrow(0, 0, 1).bytes)
        {
            return (nint)address % 64 == 0 ? (nint)address : throw new InvalidOperationException("libtorch gave a buffer that is not 64-byte aligned.");
        }
    }
}
