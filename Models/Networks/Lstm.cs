using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

// B = batch, H = width of the state, G = 4 H

/// <summary>
/// Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gates (Gers et al. 2000), in torch.nn.LSTM's order:
/// <c>i, f, g, o = W_ih x + b_ih + W_hh h + b_hh; c' = sigmoid(f) c + sigmoid(i) tanh(g); h' = sigmoid(o) tanh(c')</c>.
/// </summary>
internal sealed class Lstm : RecurrentCell
{
    public override string Name => "lstm";

    public override int Gates => 4;

    public override bool HasCellState => true;

    public override (Tensor H_BH, Tensor? C_BH) Step(Tensor input_BG, Tensor hidden_BG, Tensor h_BH, Tensor? c_BH)
    {
        var gates = input_BG.Plus(hidden_BG).chunk(4, 1);
        var c = (gates[1].sigmoid() * c_BH!).Plus(gates[0].sigmoid() * gates[2].tanh());
        return (gates[3].sigmoid() * c.tanh(), c);
    }

    // Leaves the four activations in Input_BG.
    public override void Forward(in CellStep step)
    {
        var width = step.Width;
        for (var row = 0; row < step.H_BH.Length; row += width)
        {
            var gates = step.Input_BG.Slice(4 * row, 4 * width);
            for (var j = 0; j < width; j += Lanes.Count)
            {
                var count = width - j;
                var i = Lanes.Sigmoid(Lanes.Read(gates, j, count));
                var f = Lanes.Sigmoid(Lanes.Read(gates, width + j, count));
                var g = Lanes.Tanh(Lanes.Read(gates, (2 * width) + j, count));
                var o = Lanes.Sigmoid(Lanes.Read(gates, (3 * width) + j, count));
                var c = (f * Lanes.Read(step.CBefore_BH, row + j, count)) + (i * g);
                Lanes.Write(c, step.C_BH, row + j, count);
                Lanes.Write(o * Lanes.Tanh(c), step.H_BH, row + j, count);
                Lanes.Write(i, gates, j, count);
                Lanes.Write(f, gates, width + j, count);
                Lanes.Write(g, gates, (2 * width) + j, count);
                Lanes.Write(o, gates, (3 * width) + j, count);
            }
        }
    }

    public override void Backward(in CellStep step)
    {
        var width = step.Width;
        var one = Vector512<float>.One;
        for (var row = 0; row < step.H_BH.Length; row += width)
        {
            var gates = step.Input_BG.Slice(4 * row, 4 * width);
            for (var j = 0; j < width; j += Lanes.Count)
            {
                var count = width - j;
                var i = Lanes.Read(gates, j, count);
                var f = Lanes.Read(gates, width + j, count);
                var g = Lanes.Read(gates, (2 * width) + j, count);
                var o = Lanes.Read(gates, (3 * width) + j, count);
                var tanh = Lanes.Tanh(Lanes.Read(step.C_BH, row + j, count));
                var dh = Lanes.Read(step.OutputGradient_BH, row + j, count) + Lanes.Read(step.HGradient_BH, row + j, count);
                var dc = Lanes.Read(step.CGradient_BH, row + j, count) + (dh * o * (one - (tanh * tanh)));
                Lanes.Write(dc * f, step.CGradient_BH, row + j, count);
                Lanes.Write(dc * g * i * (one - i), gates, j, count);
                Lanes.Write(dc * Lanes.Read(step.CBefore_BH, row + j, count) * f * (one - f), gates, width + j, count);
                Lanes.Write(dc * i * (one - (g * g)), gates, (2 * width) + j, count);
                Lanes.Write(dh * tanh * o * (one - o), gates, (3 * width) + j, count);
            }
        }
    }
}
