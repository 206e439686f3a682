using System.Diagnostics;
using System.Text;
using System.Text.Json;
using LlmPipeline.Fakes;

namespace LlmPipeline.Models.Tests;

public sealed class SafetensorsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("safetensors-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task WrittenTensorsReadBackBitForBit()
    {
        var values = Enumerable.Range(0, 700_001).Select(i => BitConverter.Int32BitsToSingle(i * 7919)).ToArray();
        var path = await WriteAsync(
        [
            new("a.weight", [700_001], (offset, destination) => values.AsSpan((int)offset, destination.Length).CopyTo(destination)),
            new("empty", [0, 3], (_, _) => { }),
            new("scalar", [], (_, destination) => destination[0] = 5),
            new("ümlaut \"quoted\"", [2, 1], (_, destination) => destination.Fill(-1)),
        ], new Dictionary<string, string> { ["format"] = "pt" });
        using var file = SafetensorsFile.Open(path);
        Assert.Equal(["a.weight", "empty", "scalar", "ümlaut \"quoted\""], file.Tensors.Keys.Order(StringComparer.Ordinal));
        Assert.Equal("pt", file.Metadata["format"]);
        Assert.Equal([2, 1], file.Tensors["ümlaut \"quoted\""].Shape);
        var read = new float[values.Length];
        file.Read("a.weight", read);
        Assert.Equal(values.Select(BitConverter.SingleToInt32Bits), read.Select(BitConverter.SingleToInt32Bits));
        file.Read("scalar", read.AsSpan(0, 1));
        Assert.Equal(5, read[0]);
        file.Read("empty", []);
        Assert.Throws<ArgumentException>(() => file.Read("scalar", read));
        Assert.Throws<KeyNotFoundException>(() => file.Read("none", read));
    }

    [Fact]
    public async Task TheHeaderIsWhatTheFormatSays()
    {
        var bytes = await File.ReadAllBytesAsync(await WriteAsync([new("x", [2], (_, d) => d.Fill(1))], null));
        var header = (int)BitConverter.ToUInt64(bytes);
        Assert.Equal(0, header % 8);
        Assert.Equal("""{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", Encoding.UTF8.GetString(bytes, 8, header).TrimEnd(' '));
        Assert.Equal([0, 0, 128, 63, 0, 0, 128, 63], bytes[(8 + header)..]);
    }

    [Fact]
    public async Task TwoTensorsOfOneNameAreNotWritten()
    {
        SafetensorsEntry entry = new("x", [1], (_, d) => d.Clear());
        await Assert.ThrowsAsync<ArgumentException>(() => WriteAsync([entry, entry], null));
    }

    [Fact]
    public void NarrowAndWideFloatsAreConverted()
    {
        var data = new List<byte>();
        float[] values = [1.5f, -2f, 0f, 65504f];
        foreach (var value in values)
        {
            data.AddRange(BitConverter.GetBytes((Half)value));
        }

        data.AddRange(values.SelectMany(v => BitConverter.GetBytes((ushort)(BitConverter.SingleToUInt32Bits(v) >> 16))));
        data.AddRange(values.SelectMany(v => BitConverter.GetBytes((double)v)));
        data.AddRange([1, 2, 3, 4]);
        using var file = SafetensorsFile.Open(Write(
            """{"h":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[8,16]},"d":{"dtype":"F64","shape":[4],"data_offsets":[16,48]},"i":{"dtype":"I8","shape":[4],"data_offsets":[48,52]}}""",
            [.. data]));
        var read = new float[4];
        file.Read("h", read);
        Assert.Equal(values, read);
        file.Read("d", read);
        Assert.Equal(values, read);
        file.Read("b", read);
        Assert.Equal([1.5f, -2f, 0f, 65280f], read);
        Assert.Contains("type I8", Assert.Throws<InvalidDataException>(() => file.Read("i", read)).Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, string> Hostile => new()
    {
        { "", "not valid JSON" },
        { "[]", "JSON object" },
        { "{", "not valid JSON" },
        { "{}x", "not valid JSON" },
        { "{}{}", "" },
        { """{"x":1}""", "JSON object" },
        { """{"x":{}}""", "needs dtype, shape and two" },
        { """{"x":{"dtype":"F32","shape":[2]}}""", "needs dtype" },
        { """{"x":{"dtype":"F32","shape":[2],"data_offsets":[0]}}""", "two rising" },
        { """{"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}""", "two rising" },
        { """{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8,16]}}""", "two rising" },
        { """{"x":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}""", "whole numbers" },
        { """{"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}""", "whole numbers" },
        { """{"x":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}}""", "whole numbers" },
        { """{"x":{"dtype":"F32","shape":[2e30],"data_offsets":[0,8]}}""", "whole numbers" },
        { """{"x":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}}""", "must be numbers" },
        { """{"x":{"dtype":"F32","shape":2,"data_offsets":[0,8]}}""", "JSON array" },
        { """{"x":{"dtype":7,"shape":[2],"data_offsets":[0,8]}}""", "JSON string" },
        { """{"x":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}""", "unknown type" },
        { """{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}}""", "'more'" },
        { """{"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", "'dtype' twice" },
        { """{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}""", "needs 12 bytes" },
        { """{"x":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}}""", "needs 16 bytes" },
        { """{"x":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}""", "larger than any file" },
        { """{"x":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807,9223372036854775807,9223372036854775807],"data_offsets":[0,8]}}""", "larger than any file" },
        { """{"x":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}""", "larger than any file" },
        { """{"x":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}""", "at most 32" },
        { """{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "take 4 bytes, and 8 follow" },
        { """{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}""", "cut off" },
        { """{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", "begins at 4" },
        { """{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", "'x' is there twice" },
        { """{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", "overlap" },
        { """{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", "overlap" },
        { """{"__metadata__":{"a":1},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", "JSON string" },
        { """{"__metadata__":{"a":{"b":"c"}},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", "JSON string" },
        { """{"__metadata__":{"a":"1","a":"2"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", "twice" },
        { """{"x":{"dtype":"F32","shape":[[[[[[2]]]]]],"data_offsets":[0,8]}}""", "" },
    };

    [Theory]
    [MemberData(nameof(Hostile))]
    public void HostileHeadersAreRefused(string header, string message)
    {
        var error = Assert.Throws<InvalidDataException>(() => SafetensorsFile.Open(Write(header, new byte[8])));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
        Assert.Contains(_folder, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(ulong.MaxValue)]
    [InlineData(100_000_001UL)]
    [InlineData(1UL << 63)]
    [InlineData(17UL)]
    public void HeaderLengthsBeyondFileOrLimitAreRefusedBeforeReading(ulong length)
    {
        var path = Path.Combine(_folder, "long");
        File.WriteAllBytes(path, [.. BitConverter.GetBytes(length), .. new byte[16]]);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<InvalidDataException>(() => SafetensorsFile.Open(path));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1_000_000);
    }

    [Fact]
    public async Task ChangedAndShortenedFilesNeverDoMoreThanThrowInvalidData()
    {
        var good = await File.ReadAllBytesAsync(await WriteAsync([new("a", [3, 2], (_, d) => d.Fill(1)), new("b", [4], (_, d) => d.Fill(2))], new Dictionary<string, string> { ["format"] = "pt" }));
        var random = new Random(1);
        var path = Path.Combine(_folder, "fuzz");
        var refused = 0;
        for (var n = 0; n < 4000; n++)
        {
            var bytes = good[..(n % 4 == 0 ? random.Next(good.Length) : good.Length)];
            for (var changes = random.Next(1, 4); changes > 0 && bytes.Length > 0; changes--)
            {
                bytes[random.Next(Math.Min(bytes.Length, 180))] = (byte)(random.Next(2) == 0 ? random.Next(256) : "0123456789[]{},:\"F"[random.Next(18)]);
            }

            await File.WriteAllBytesAsync(path, bytes);
            try
            {
                using var file = SafetensorsFile.Open(path);
                foreach (var (name, tensor) in file.Tensors)
                {
                    if (tensor.DataType == "F32")
                    {
                        file.Read(name, new float[(tensor.End - tensor.Begin) / 4]);
                    }
                }
            }
            catch (InvalidDataException)
            {
                refused++;
            }
        }

        Assert.InRange(refused, 2000, 4000);
    }

    [Fact]
    public void AHundredThousandTensorsOpenFast()
    {
        var header = new StringBuilder("{");
        for (var i = 0; i < 100_000; i++)
        {
            header.Append(System.Globalization.CultureInfo.InvariantCulture, $"{(i > 0 ? "," : "")}\"layer.{i}.weight\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[{4 * i},{(4 * i) + 4}]}}");
        }

        var path = Write(header.Append('}').ToString(), new byte[400_000]);
        var clock = Stopwatch.StartNew();
        using var file = SafetensorsFile.Open(path);
        Assert.Equal(100_000, file.Tensors.Count);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(10), $"{clock.Elapsed}");
    }

    [Fact]
    public void FilesOfOtherWritersAreRead()
    {
        var path = TestData.PathOf("llama-hf-layout/model.safetensors");
        using var file = SafetensorsFile.Open(path);
        Assert.Equal("pt", file.Metadata["format"]);

        // Once more, with nothing of the reader.
        var bytes = File.ReadAllBytes(path);
        var headerLength = (int)BitConverter.ToUInt64(bytes);
        using var header = JsonDocument.Parse(bytes.AsMemory(8, headerLength));
        var tensors = header.RootElement.EnumerateObject().Where(p => p.Name != "__metadata__").ToList();
        Assert.Equal(tensors.Select(t => t.Name).Order(StringComparer.Ordinal), file.Tensors.Keys.Order(StringComparer.Ordinal));
        foreach (var tensor in tensors)
        {
            Assert.Equal("F32", tensor.Value.GetProperty("dtype").GetString());
            var begin = 8 + headerLength + tensor.Value.GetProperty("data_offsets")[0].GetInt32();
            var values = new float[tensor.Value.GetProperty("shape").EnumerateArray().Aggregate(1, (n, size) => n * size.GetInt32())];
            file.Read(tensor.Name, values);
            for (var i = 0; i < values.Length; i++)
            {
                Assert.Equal(BitConverter.ToInt32(bytes, begin + (4 * i)), BitConverter.SingleToInt32Bits(values[i]));
            }
        }
    }

    private async Task<string> WriteAsync(SafetensorsEntry[] tensors, Dictionary<string, string>? metadata)
    {
        var path = Path.Combine(_folder, Guid.NewGuid().ToString("n"));
        await using var stream = File.Create(path);
        await Safetensors.WriteAsync(stream, tensors, metadata, TestContext.Current.CancellationToken);
        return path;
    }

    private string Write(string header, byte[] data)
    {
        var path = Path.Combine(_folder, Guid.NewGuid().ToString("n"));
        var json = Encoding.UTF8.GetBytes(header);
        File.WriteAllBytes(path, [.. BitConverter.GetBytes((ulong)json.Length), .. json, .. data]);
        return path;
    }
}
