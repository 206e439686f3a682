using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

// B = batch, H = width of the state, G = 3 H

/// <summary>
/// The gated recurrent unit (Cho et al. 2014) as torch.nn.GRU and cuDNN compute it, with the reset gate after the product:
/// <c>r = sigmoid(W_ir x + b_ir + W_hr h + b_hr); z = sigmoid(W_iz x + b_iz + W_hz h + b_hz);
/// n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h' = (1 - z) n + z h</c>.
/// </summary>
internal sealed class Gru : RecurrentCell
{
    public override string Name => "gru";

    public override int Gates => 3;

    public override bool KeepsHiddenApart => true;

    public override bool CarriesState => true;

    public override (Tensor H_BH, Tensor? C_BH) Step(Tensor input_BG, Tensor hidden_BG, Tensor h_BH, Tensor? c_BH)
    {
        var (input, hidden) = (input_BG.chunk(3, 1), hidden_BG.chunk(3, 1));
        var r = input[0].Plus(hidden[0]).sigmoid();
        var z = input[1].Plus(hidden[1]).sigmoid();
        var n = input[2].Plus(r * hidden[2]).tanh();
        return (n.Plus(z * (h_BH - n)), null);
    }

    // Leaves the three activations in Input_BG.
    public override void Forward(in CellStep step)
    {
        var width = step.Width;
        for (var row = 0; row < step.H_BH.Length; row += width)
        {
            var input = step.Input_BG.Slice(3 * row, 3 * width);
            var hidden = step.Hidden_BG.Slice(3 * row, 3 * width);
            for (var j = 0; j < width; j += Lanes.Count)
            {
                var count = width - j;
                var r = Lanes.Sigmoid(Lanes.Read(input, j, count) + Lanes.Read(hidden, j, count));
                var z = Lanes.Sigmoid(Lanes.Read(input, width + j, count) + Lanes.Read(hidden, width + j, count));
                var n = Lanes.Tanh(Lanes.Read(input, (2 * width) + j, count) + (r * Lanes.Read(hidden, (2 * width) + j, count)));
                Lanes.Write(n + (z * (Lanes.Read(step.HBefore_BH, row + j, count) - n)), step.H_BH, row + j, count);
                Lanes.Write(r, input, j, count);
                Lanes.Write(z, input, width + j, count);
                Lanes.Write(n, input, (2 * width) + j, count);
            }
        }
    }

    public override void Backward(in CellStep step)
    {
        var width = step.Width;
        var one = Vector512<float>.One;
        for (var row = 0; row < step.H_BH.Length; row += width)
        {
            var input = step.Input_BG.Slice(3 * row, 3 * width);
            var hidden = step.Hidden_BG.Slice(3 * row, 3 * width);
            for (var j = 0; j < width; j += Lanes.Count)
            {
                var count = width - j;
                var r = Lanes.Read(input, j, count);
                var z = Lanes.Read(input, width + j, count);
                var n = Lanes.Read(input, (2 * width) + j, count);
                var dh = Lanes.Read(step.OutputGradient_BH, row + j, count) + Lanes.Read(step.HGradient_BH, row + j, count);
                var dn = dh * (one - z) * (one - (n * n));
                var dz = dh * (Lanes.Read(step.HBefore_BH, row + j, count) - n) * z * (one - z);
                var dr = dn * Lanes.Read(hidden, (2 * width) + j, count) * r * (one - r);
                Lanes.Write(dh * z, step.HGradient_BH, row + j, count);
                Lanes.Write(dr, input, j, count);
                Lanes.Write(dz, input, width + j, count);
                Lanes.Write(dn, input, (2 * width) + j, count);
                Lanes.Write(dr, hidden, j, count);
                Lanes.Write(dz, hidden, width + j, count);
                Lanes.Write(dn * r, hidden, (2 * width) + j, count);
            }
        }
    }
}
