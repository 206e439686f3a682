using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

// N = number of ids, V = vocabulary, C = channels

/// <summary>Rows of an embedding.</summary>
internal static class Lookup
{
    /// <summary>
    /// (N, C), a row for each id. On the CPU the gradient is added to the rows that were taken, in their order; autograd would make
    /// and add a tensor of the whole embedding's size in each pass.
    /// </summary>
    /// <param name="table_VC">A parameter.</param>
    /// <param name="ids_N">int64.</param>
    /// <param name="pass">The pass.</param>
    public static Tensor Rows(Tensor table_VC, Tensor ids_N, Pass pass)
    {
        if (pass.Tape is null || table_VC.device.type != DeviceType.CPU || table_VC.grad is not { } gradient_VC || table_VC.numel() > int.MaxValue / sizeof(float))
        {
            return table_VC.index_select(0, ids_N);
        }

        using var noGrad = no_grad();
        return pass.Tape.Cut(table_VC.index_select(0, ids_N), gradient_NC =>
        {
            var ids = MemoryMarshal.Cast<byte, long>(ids_N.bytes);
            var from = MemoryMarshal.Cast<byte, float>(gradient_NC.contiguous().bytes);
            var to = MemoryMarshal.Cast<byte, float>(gradient_VC.bytes);
            var width = from.Length / ids.Length;
            for (var n = 0; n < ids.Length; n++)
            {
                var row = from.Slice(n * width, width);
                var sum = to.Slice((int)ids[n] * width, width);
                for (var c = 0; c < width; c += Lanes.Count)
                {
                    Lanes.Write(Lanes.Read(sum, c, width - c) + Lanes.Read(row, c, width - c), sum, c, width - c);
                }
            }
        });
    }
}
