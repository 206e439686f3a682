using System.Diagnostics;
using System.Globalization;
using System.Net;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer.Collectives;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace LlmPipeline.Bench.Exchange;

/// <summary>
/// One rank of bench allreduce, as a process: "SIDE COUNT" on standard input runs so many all-reduces and answers each with a line
/// of wall seconds, CPU seconds and bytes allocated.
/// </summary>
internal static class AllReduceRank
{
    public const string Command = "allreduce-rank";

    /// <summary>Bits of a gradient's elements: normal, with another scale for each 1,024.</summary>
    private const int TileLength = 1 << 16;

    /// <summary>Our sides, by name.</summary>
    public static IReadOnlyDictionary<string, ExchangeFormat> Formats { get; } = new Dictionary<string, ExchangeFormat>
    {
        ["exact"] = ExchangeFormat.Exact,
        ["exact-bf16"] = new(SumMode.Exact, WireFormat.Bf16),
        ["plain"] = new(SumMode.Plain, WireFormat.Fp32),
        ["plain-bf16"] = new(SumMode.Plain, WireFormat.Bf16),
    };

    public static async Task<int> RunAsync(string[] arguments)
    {
        var numbers = arguments.Select(a => int.Parse(a, CultureInfo.InvariantCulture)).ToArray();
        var (rank, size, length) = (numbers[0], numbers[1], numbers[2]);
        var (grpcPorts, tcpPorts) = (numbers[3..(3 + size)], numbers[(3 + size)..]);
        var registry = new RingRegistry();
        await using var app = await ServeAsync(IPAddress.Loopback, grpcPorts[rank], registry);
        await using var ring = new GrpcRingTransport(1, rank, [.. grpcPorts.Select(port => $"http://localhost:{port}")]);
        registry.Enter(1, ring);
        var reduce = new RingAllReduce(ring);
        using var tcp = new RawTcpRing(rank, tcpPorts);
        var (values, buffers) = (new float[length], new Dictionary<string, ExchangeBuffer>());
        var tile = Tile(rank);
        var expected = ExpectedOf(size);
        Console.WriteLine("ready");
        var step = 0L;
        while (Console.ReadLine() is { } line)
        {
            var (side, count) = (line.Split(' ')[0], int.Parse(line.Split(' ')[1], CultureInfo.InvariantCulture));
            for (var run = 0; run < count; run++)
            {
                for (var offset = 0; offset < length; offset += TileLength)
                {
                    tile.AsSpan(0, Math.Min(TileLength, length - offset)).CopyTo(values.AsSpan(offset));
                }

                var buffer = side == "tcp" ? null : Buffer(side);
                buffer?.Clear();
                buffer?.AddLast(0, length, 1);
                await reduce.RunAsync(++step, Buckets.Entry, new ExchangeBuffer(0, 1));
                var (mark, used, allocated) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime, GC.GetTotalAllocatedBytes());
                if (buffer is null)
                {
                    tcp.Run(values);
                }
                else
                {
                    await reduce.RunAsync(step, Buckets.Gradients, buffer);
                }

                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"{Stopwatch.GetElapsedTime(mark).TotalSeconds} {(Environment.CpuUsage.TotalTime - used).TotalSeconds} {GC.GetTotalAllocatedBytes() - allocated}"));
                Check(values, expected, size, side);
            }

            Console.WriteLine("done");
        }

        return 0;

        // The exchange buffers hold the results where the gradient was, as training does. One at a time: 100 million partial sums are 800 MB.
        ExchangeBuffer Buffer(string side)
        {
            if (!buffers.TryGetValue(side, out var buffer))
            {
                buffers.Clear();
                buffers[side] = buffer = new ExchangeBuffer(length, 8, () => values, format: Formats[side]);
            }

            return buffer;
        }
    }

    /// <summary>The server of a worker, with nothing but the gradient stream.</summary>
    internal static async Task<WebApplication> ServeAsync(IPAddress address, int port, RingRegistry registry)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(registry).AddSingleton<TlsCertificates>().AddGradientStreams(new ExchangeOptions());
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(address, port, GrpcEndpoint.UseGrpc));
        var app = builder.Build();
        app.MapGrpcService<PeerGradientService>();
        await app.StartAsync();
        return app;
    }

    private static float[] Tile(int rank)
    {
        var random = new Random(rank + 1);
        var tile = new float[TileLength];
        for (var i = 0; i < tile.Length; i++)
        {
            var scale = Math.Pow(2, -12 - (i / 1024 % 8));
            tile[i] = (float)(scale * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
        }

        return tile;
    }

    private static double[] ExpectedOf(int size)
    {
        var tiles = Enumerable.Range(0, size).Select(Tile).ToArray();
        return [.. Enumerable.Range(0, TileLength).Select(i => tiles.Sum(t => (double)t[i]))];
    }

    // Each sum within what its format rounds: the bound of plain fp32 addition, or of bfloat16 at each of the hops.
    private static void Check(float[] values, double[] expected, int size, string side)
    {
        var relative = side.Contains("bf16", StringComparison.Ordinal) ? size * Math.Pow(2, -8) : size * Math.Pow(2, -24);
        for (var i = 0; i < values.Length; i += 997)
        {
            var sum = expected[i % TileLength];
            if (!(Math.Abs(values[i] - sum) <= (relative * Math.Pow(2, -9)) + Math.Pow(2, -43)))
            {
                throw new InvalidOperationException($"{side}: element {i} is {values[i]}, not {sum}.");
            }
        }
    }
}
