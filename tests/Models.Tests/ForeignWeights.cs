using System.Text.Json.Nodes;

namespace LlmPipeline.Models.Tests;

/// <summary>A writer of weights of its own, so that types and layouts that this project only reads are there too.</summary>
internal static class ForeignWeights
{
    /// <summary>The tensors of a network.</summary>
    public static Dictionary<string, (long[] Shape, float[] Values)> Of(LanguageModel model) => model.Parameters.Views.ToDictionary(
        v => v.Name, v => (v.Shape.ToArray(), model.Parameters.Values.Slice(v.Offset, v.Length).ToArray()));

    /// <summary>Writes a safetensors file.</summary>
    public static void Write(string folder, IReadOnlyDictionary<string, (long[] Shape, float[] Values)> tensors, string dataType = "F32", string file = "model.safetensors")
    {
        var data = new List<byte>();
        var header = new JsonObject();
        foreach (var (name, (shape, values)) in tensors)
        {
            var begin = data.Count;
            foreach (var value in values)
            {
                data.AddRange(dataType switch
                {
                    "F16" => BitConverter.GetBytes((Half)value),
                    "BF16" => BitConverter.GetBytes((ushort)((BitConverter.SingleToUInt32Bits(value) + 0x8000) >> 16)),
                    _ => BitConverter.GetBytes(value),
                });
            }

            header[name] = new JsonObject
            {
                ["dtype"] = dataType,
                ["shape"] = new JsonArray([.. shape.Select(s => JsonValue.Create(s))]),
                ["data_offsets"] = new JsonArray(begin, data.Count),
            };
        }

        var json = System.Text.Encoding.UTF8.GetBytes(header.ToJsonString());
        File.WriteAllBytes(Path.Combine(folder, file), [.. BitConverter.GetBytes((ulong)json.Length), .. json, .. data]);
    }
}
