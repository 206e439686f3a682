using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

// B = batch, T = time, N = B * T, M = documents, L = ids of the longest document, C = channels

/// <summary>Pools the hidden states of documents for a classification head.</summary>
internal static class DocumentPooling
{
    /// <summary>One row a document.</summary>
    /// <param name="x_NC">Final hidden states, sequence by sequence; what comes behind a document in its sequence is not read.</param>
    /// <param name="last_M">Where the last id of each document stands, in 0..N-1.</param>
    /// <param name="batch">B.</param>
    /// <param name="pooling">How.</param>
    /// <returns>fp32 (M, C), or (M, 3 C).</returns>
    public static Tensor Of(Tensor x_NC, int[] last_M, int batch, Pooling pooling)
    {
        var time = (int)x_NC.shape[0] / batch;
        var longest = last_M.Max(place => place % time) + 1;
        var sequences_M = HostTensors.Int64([.. last_M.Select(place => place / time)], x_NC.device);
        var x_MLC = x_NC.view(batch, time, -1).narrow(1, 0, longest).index_select(0, sequences_M).to(float32);
        Tensor Last() => x_NC.index_select(0, HostTensors.Int64(last_M, x_NC.device)).to(float32);
        return pooling switch
        {
            Pooling.Last => Last(),
            Pooling.Mean => Mean(x_MLC, last_M, time),
            Pooling.Max => Max(x_MLC, last_M, time),
            _ => cat([Last(), Max(x_MLC, last_M, time), Mean(x_MLC, last_M, time)], 1),
        };
    }

    private static Tensor Mean(Tensor x_MLC, int[] last_M, int time) => x_MLC.mul(Places(x_MLC, last_M, time, (within, length) => within ? 1f / length : 0)).sum(1);

    private static Tensor Max(Tensor x_MLC, int[] last_M, int time) => x_MLC.Plus(Places(x_MLC, last_M, time, (within, _) => within ? 0 : float.NegativeInfinity)).amax([1]);

    // (M, L, 1): a number for each place, by whether it is within its document.
    private static Tensor Places(Tensor x_MLC, int[] last_M, int time, Func<bool, int, float> value)
    {
        var longest = (int)x_MLC.shape[1];
        var places = empty([last_M.Length, longest, 1], float32);
        var values = MemoryMarshal.Cast<byte, float>(places.bytes);
        for (var m = 0; m < last_M.Length; m++)
        {
            var length = (last_M[m] % time) + 1;
            for (var place = 0; place < longest; place++)
            {
                values[(m * longest) + place] = value(place < length, length);
            }
        }

        return places.On(x_MLC.device);
    }
}
