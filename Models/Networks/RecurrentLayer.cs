using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

// B = batch, T = time, N = T * B (time first), C = channels of the input, H = width of the state, G = gates * H

/// <summary>A recurrent layer over a sequence: one product for the inputs of all time steps, then step by step the product with the state.</summary>
/// <param name="Cell">What a time step computes.</param>
/// <param name="InputWeight">(G, C).</param>
/// <param name="HiddenWeight">(G, H).</param>
/// <param name="InputBias">(G), or null.</param>
/// <param name="HiddenBias">(G), or null.</param>
internal sealed record RecurrentLayer(RecurrentCell Cell, Tensor InputWeight, Tensor HiddenWeight, Tensor? InputBias, Tensor? HiddenBias)
{
    private readonly int _width = (int)HiddenWeight.shape[1];

    /// <param name="x_NC">Time first.</param>
    /// <param name="pass">The pass.</param>
    /// <param name="dropHidden">Probability with which a weight of the product with the state is 0 in this pass (weight drop; Merity et al. 2018).</param>
    /// <param name="state">Gives the states before and receives those after, in a generation; else null, for states of 0.</param>
    /// <param name="byHand">Without autograd; needs the CPU.</param>
    /// <returns>(N, H), time first.</returns>
    public Tensor Forward(Tensor x_NC, Pass pass, double dropHidden, RecurrentState? state, bool byHand)
    {
        var weight_GH = pass.Dropout?.Apply(HiddenWeight, dropHidden) ?? HiddenWeight;
        return byHand ? ByHand(x_NC, weight_GH, pass, state) : InPlainOps(x_NC, weight_GH, pass, state);
    }

    private Tensor InPlainOps(Tensor x_NC, Tensor weight_GH, Pass pass, RecurrentState? state)
    {
        var input_TBG = new Linear(InputWeight, InputBias, InputFirst: false).Forward(x_NC).view(-1, pass.Batch, Cell.Gates * _width).unbind(0);
        var product = new Linear(weight_GH, HiddenBias, InputFirst: false);
        var h_BH = state?.H ?? zeros([pass.Batch, _width], float32, x_NC.device);
        var c_BH = state is not null ? state.C : Cell.HasCellState ? zeros([pass.Batch, _width], float32, x_NC.device) : null;
        var h_TBH = new Tensor[input_TBG.Length];
        for (var t = 0; t < input_TBG.Length; t++)
        {
            (h_BH, c_BH) = Cell.Step(input_TBG[t], product.Forward(h_BH), h_BH, c_BH);
            h_TBH[t] = h_BH;
        }

        state?.Set(h_BH, c_BH);
        return cat(h_TBH, 0);
    }

    private Tensor ByHand(Tensor x_NC, Tensor weight_GH, Pass pass, RecurrentState? state)
    {
        using var noGrad = no_grad();
        var (batch, gates) = (pass.Batch, Cell.Gates * _width);
        var time = (int)x_NC.shape[0] / batch;
        var input_NG = Product(x_NC, Cell.KeepsHiddenApart || HiddenBias is null ? InputBias : InputBias!.Plus(HiddenBias)).to(float32);
        // A copy: of a single row, expand and contiguous would be the bias itself, which is added to below.
        var hidden_NG = !Cell.KeepsHiddenApart ? input_NG
            : HiddenBias is null ? zeros_like(input_NG) : empty_like(input_NG).copy_(HiddenBias);

        // The states before the first step, then those after each.
        var h_SBH = empty([time + 1, batch, _width], float32);
        var c_SBH = Cell.HasCellState ? empty([time + 1, batch, _width], float32) : null;
        Begin(h_SBH, state?.H);
        Begin(c_SBH, state?.C);

        var hidden_TBG = hidden_NG.view(time, batch, gates).unbind(0);
        var h_S = h_SBH.unbind(0);
        using var weight_HG = weight_GH.t();
        for (var t = 0; t < time; t++)
        {
            if (t > 0 || state is not null)
            {
                hidden_TBG[t].addmm_(h_S[t], weight_HG);
            }

            Cell.Forward(Step(t));
        }

        state?.Set(h_S[time], c_SBH?.select(0, time));
        var y_NH = h_SBH.narrow(0, 1, time).view(-1, _width);
        return pass.Tape is null ? y_NH : pass.Tape.Cut(y_NH.detach(), Backward);

        CellStep Step(int t, Tensor? dY_NH = null, Tensor? dH_BH = null, Tensor? dC_BH = null)
        {
            var (one, all) = (batch * _width, batch * gates);
            return new()
            {
                Width = _width,
                Input_BG = Floats(input_NG).Slice(t * all, all),
                Hidden_BG = Floats(hidden_NG).Slice(t * all, all),
                HBefore_BH = Floats(h_SBH).Slice(t * one, one),
                H_BH = Floats(h_SBH).Slice((t + 1) * one, one),
                CBefore_BH = c_SBH is null ? [] : Floats(c_SBH).Slice(t * one, one),
                C_BH = c_SBH is null ? [] : Floats(c_SBH).Slice((t + 1) * one, one),
                OutputGradient_BH = dY_NH is null ? [] : Floats(dY_NH).Slice(t * one, one),
                HGradient_BH = dH_BH is null ? [] : Floats(dH_BH),
                CGradient_BH = dC_BH is null ? [] : Floats(dC_BH),
            };
        }

        void Backward(Tensor gradient_NH)
        {
            using var without = no_grad();
            var dY_NH = gradient_NH.contiguous();
            var dH_BH = zeros([batch, _width], float32);
            var dC_BH = Cell.HasCellState ? zeros([batch, _width], float32) : null;
            for (var t = time - 1; t >= 0; t--)
            {
                Cell.Backward(Step(t, dY_NH, dH_BH, dC_BH));
                if (t > 0)
                {
                    dH_BH.addmm_(hidden_TBG[t], weight_GH, beta: Cell.CarriesState ? 1 : 0, alpha: 1);
                }
            }

            // The products hold their gradients now. A state before the first step is 0.
            var rows = (time - 1) * batch;
            Tape.ContinueProduct(weight_GH, hidden_NG.narrow(0, batch, rows).t(), h_SBH.narrow(0, 1, time - 1).view(rows, _width));
            Tape.ContinueProduct(InputWeight, input_NG.t(), x_NC);
            if (InputBias is not null)
            {
                // 0 alone would be a type of numbers.
                var sum_G = input_NG.sum(0L);
                Tape.Continue(InputBias, sum_G);
                Tape.Continue(HiddenBias!, Cell.KeepsHiddenApart ? hidden_NG.sum(0L) : sum_G);
            }

            if (x_NC.requires_grad)
            {
                Tape.Continue(x_NC, input_NG.mm(InputWeight));
            }
        }
    }

    private Tensor Product(Tensor x_NC, Tensor? bias_G)
    {
        using var weight_CG = InputWeight.t();
        return bias_G is null ? x_NC.mm(weight_CG) : bias_G.addmm(x_NC, weight_CG);
    }

    private static void Begin(Tensor? states_SBH, Tensor? state_BH)
    {
        if (states_SBH is null)
        {
            return;
        }

        using var first = states_SBH.select(0, 0);
        _ = state_BH is null ? first.zero_() : first.copy_(state_BH);
    }

    private static Span<float> Floats(Tensor tensor) => MemoryMarshal.Cast<byte, float>(tensor.bytes);
}

/// <summary>The states of one layer in a generation, (B, H) each.</summary>
internal sealed class RecurrentState(int batch, int width, bool hasCellState, Device device) : IDisposable
{
    public Tensor H { get; } = zeros([batch, width], float32, device).DetachFromDisposeScope();

    public Tensor? C { get; } = hasCellState ? zeros([batch, width], float32, device).DetachFromDisposeScope() : null;

    public void Set(Tensor h_BH, Tensor? c_BH)
    {
        H.copy_(h_BH);
        C?.copy_(c_BH!);
    }

    public void Dispose()
    {
        H.Dispose();
        C?.Dispose();
    }
}
