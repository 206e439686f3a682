using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

// B = batch, H = width of the state

/// <summary>The simple recurrent network (Elman 1990): <c>h' = tanh(W_ih x + b_ih + W_hh h + b_hh)</c>.</summary>
internal sealed class Rnn : RecurrentCell
{
    public override string Name => "rnn";

    public override int Gates => 1;

    public override (Tensor H_BH, Tensor? C_BH) Step(Tensor input_BG, Tensor hidden_BG, Tensor h_BH, Tensor? c_BH) => (input_BG.Plus(hidden_BG).tanh(), null);

    public override void Forward(in CellStep step)
    {
        for (var i = 0; i < step.H_BH.Length; i += Lanes.Count)
        {
            var count = step.H_BH.Length - i;
            Lanes.Write(Lanes.Tanh(Lanes.Read(step.Input_BG, i, count)), step.H_BH, i, count);
        }
    }

    public override void Backward(in CellStep step)
    {
        for (var i = 0; i < step.H_BH.Length; i += Lanes.Count)
        {
            var count = step.H_BH.Length - i;
            var h = Lanes.Read(step.H_BH, i, count);
            var gradient = Lanes.Read(step.OutputGradient_BH, i, count) + Lanes.Read(step.HGradient_BH, i, count);
            Lanes.Write(gradient * (Vector512<float>.One - (h * h)), step.Input_BG, i, count);
        }
    }
}
