using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Grpc.Core;
using LlmPipeline.Fakes;
using LlmPipeline.Trainer.Collectives;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;

namespace LlmPipeline.Trainer.Tests;

[Collection(AloneCollection.Name)]
public sealed class GrpcRingTests : IAsyncLifetime
{
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(30);
    private readonly List<WebApplication> _apps = [];
    private readonly List<RingRegistry> _registries = [];
    private readonly List<string> _addresses = [];

    public async ValueTask InitializeAsync()
    {
        for (var i = 0; i < 3; i++)
        {
            var port = FreePort.Next();
            var registry = new RingRegistry();
            _apps.Add(await TestHost.StartAsync(port, b => b.Services.AddSingleton(registry).AddGradientStreams(new ExchangeOptions()), a => a.MapGrpcService<PeerGradientService>()));
            _registries.Add(registry);
            _addresses.Add($"http://localhost:{port}");
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var app in _apps)
        {
            await app.DisposeAsync();
        }
    }

    [Fact]
    public async Task SumsGoAroundOverManyStepsAndEpochs()
    {
        for (var epoch = 1; epoch <= 3; epoch++)
        {
            var size = epoch == 2 ? 2 : 3;
            var rings = Enter(epoch, size);
            var reduces = rings.Select(r => new RingAllReduce(r, 1000)).ToArray();
            var buffers = rings.Select(_ => new ExchangeBuffer(20_011, 5)).ToArray();
            for (var step = 1; step <= 5; step++)
            {
                for (var rank = 0; rank < size; rank++)
                {
                    buffers[rank].Clear();
                    Assert.True(buffers[rank].Add(Enumerable.Range(0, 20_011).Select(i => (float)Math.Sin(i + rank + step)).ToArray(), 10));
                    buffers[rank].AddCount(3, 1);
                }

                await Task.WhenAll(reduces.Zip(buffers, (r, b) => r.RunAsync(step, Buckets.Gradients, b))).WaitAsync(Timeout);
                for (var rank = 0; rank < size; rank++)
                {
                    Assert.Equal(size, buffers[rank].Count(3));
                    Assert.True(buffers[0].Gradients.SequenceEqual(buffers[rank].Gradients));
                }

                var expected = Enumerable.Range(0, size).Sum(rank => (double)(float)Math.Sin(777 + rank + step));
                Assert.Equal(expected, buffers[0].Gradients[777], 1e-6);
            }

            foreach (var ring in rings)
            {
                await ring.DisposeAsync();
            }
        }
    }

    [Fact]
    public async Task WhatAStepAllocatesIsSmallAndStaysTheSame()
    {
        const int elements = 400_000;
        var rings = Enter(1, 3);
        var reduces = rings.Select(r => new RingAllReduce(r)).ToArray();
        var buffers = rings.Select(_ => new ExchangeBuffer(elements, 5)).ToArray();
        var gradient = Enumerable.Range(0, elements).Select(i => (float)Math.Sin(i)).ToArray();
        var step = 0;
        await TenStepsAsync();
        var allocated = new List<double>();
        while (allocated.Count < 6)
        {
            allocated.Add(await TenStepsAsync());
        }

        foreach (var ring in rings)
        {
            await ring.DisposeAsync();
        }

        // Three ranks, in bytes a step; a gradient has 1.6 MB. What else the process does can only add to it.
        var (early, late) = (allocated[..3].Min(), allocated[3..].Min());
        Assert.True(early < 300_000 && late < 300_000 && late < (1.5 * early) + 20_000, string.Join(", then ", allocated.Select(a => $"{a:N0}")));

        async Task<double> TenStepsAsync()
        {
            var before = GC.GetTotalAllocatedBytes(precise: true);
            for (var end = step + 10; step < end;)
            {
                step++;
                foreach (var buffer in buffers)
                {
                    buffer.Clear();
                    Assert.True(buffer.Add(gradient, 10));
                }

                await Task.WhenAll(reduces.Zip(buffers, (r, b) => r.RunAsync(step, Buckets.Gradients, b))).WaitAsync(Timeout);
            }

            return (GC.GetTotalAllocatedBytes(precise: true) - before) / 10.0;
        }
    }

    [Fact]
    public async Task APullOfAnOldEpochIsAborted()
    {
        var rings = Enter(5, 2);
        var error = await Assert.ThrowsAsync<RpcException>(() => PullAsync(_addresses[0], new PullRequest(4, 1, 2)));
        Assert.Equal(StatusCode.Aborted, error.StatusCode);
        Assert.Contains("Epoch 4 is over", error.Status.Detail);

        // A member of the old epoch learns that it is over, and does not suspect its peer.
        await using var late = new GrpcRingTransport(4, 1, [_addresses[0], _addresses[1]]);
        var broken = await Assert.ThrowsAsync<RingBrokenException>(() => new RingAllReduce(late).RunAsync(1, Buckets.Entry, new ExchangeBuffer(0, 8)).WaitAsync(Timeout));
        Assert.Equal(-1, broken.SuspectRank);
        await rings[0].DisposeAsync();
        await rings[1].DisposeAsync();
    }

    [Fact]
    public async Task AStrangerIsRefused()
    {
        var rings = Enter(1, 3);
        var wrongRank = await Assert.ThrowsAsync<RpcException>(() => PullAsync(_addresses[0], new PullRequest(1, 2, 3)));
        Assert.Equal(StatusCode.InvalidArgument, wrongRank.StatusCode);
        var wrongSize = await Assert.ThrowsAsync<RpcException>(() => PullAsync(_addresses[0], new PullRequest(1, 1, 4)));
        Assert.Equal(StatusCode.InvalidArgument, wrongSize.StatusCode);
        foreach (var ring in rings)
        {
            await ring.DisposeAsync();
        }
    }

    [Fact]
    public async Task AnyClientIsSentTheSameChunks()
    {
        var ring = new GrpcRingTransport(1, 0, [_addresses[0], _addresses[1]]);
        _registries[0].Enter(1, ring);
        var buffer = new ExchangeBuffer(200_000, 5);
        Assert.True(buffer.Add([.. Enumerable.Range(0, 200_000).Select(i => (float)Math.Sin(i))], 10));
        var run = new RingAllReduce(ring).RunAsync(3, Buckets.Gradients, buffer);
        using var channel = PeerChannels.Create(_addresses[0]);
        using var call = channel.CreateCallInvoker().AsyncServerStreamingCall(ByAnotherClient, null, default, new PullRequest(1, 1, 2));
        await using var stream = await PullStream.OpenAsync(
            await PeerConnections.Plaintext.OpenAsync(new Uri(_addresses[2]), CancellationToken.None), new Uri(_addresses[2]), new PullRequest(1, 1, 2), ExchangeOptions.SmallestWindow, CancellationToken.None);
        var twin = new GrpcRingTransport(1, 0, [_addresses[2], _addresses[1]]);
        _registries[2].Enter(1, twin);
        var twinRun = new RingAllReduce(twin).RunAsync(3, Buckets.Gradients, buffer);
        for (var chunk = 0; chunk < 2; chunk++)
        {
            Assert.True(await call.ResponseStream.MoveNext(CancellationToken.None).WaitAsync(Timeout));
            var message = await stream.ReadAsync(CancellationToken.None).AsTask().WaitAsync(Timeout);
            Assert.True(ChunkHeader.TryRead(call.ResponseStream.Current, out var header) && header is { Step: 3, Stage: 0 } && header.Offset == chunk * 60 * 1024);
            Assert.True(call.ResponseStream.Current.AsSpan().SequenceEqual(message!.Value.Span));
        }

        ring.Abort();
        twin.Abort();
        await Assert.ThrowsAsync<RingBrokenException>(() => run.WaitAsync(Timeout));
        await Assert.ThrowsAsync<RingBrokenException>(() => twinRun.WaitAsync(Timeout));
        await ring.DisposeAsync();
        await twin.DisposeAsync();
    }

    [Fact]
    public async Task AClientThatWaitsForTheServersSettingsGetsThem()
    {
        await using var connection = await PeerConnections.Plaintext.OpenAsync(new Uri(_addresses[0]), CancellationToken.None);
        connection.Write([.. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, .. Http2Frames.SettingsFrame()]);
        var answer = new byte[Http2Frames.HeaderBytes];
        await Task.Run(() => connection.ReadExactly(answer), TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromSeconds(5));
        Assert.Equal(Http2Frames.Settings, Http2Frames.ReadHeader(answer).Type);
    }

    [Fact]
    public async Task AMemberThatReadsNothingHoldsNobodyUpAtTheEnd()
    {
        var ring = new GrpcRingTransport(1, 0, [_addresses[0], _addresses[1]]);
        _registries[0].Enter(1, ring);
        await using var connection = await PeerConnections.Plaintext.OpenAsync(new Uri(_addresses[0]), CancellationToken.None);
        connection.Write(new PullHello(new PullRequest(1, 1, 2), 1 << 30).ToBytes(new Uri(_addresses[0])));

        // More than the system's buffers take, so that a chunk waits on its way out.
        var run = new RingAllReduce(ring).RunAsync(1, Buckets.Gradients, new ExchangeBuffer(20_000_000, 5, format: new ExchangeFormat(SumMode.Plain, WireFormat.Fp32)));
        await Task.Delay(500, TestContext.Current.CancellationToken);
        Assert.False(run.IsCompleted);
        ring.Abort();
        await Assert.ThrowsAsync<RingBrokenException>(() => run.WaitAsync(TimeSpan.FromSeconds(3)));
        await ring.DisposeAsync();
    }

    [Fact]
    public async Task AMemberThatIsSilentIsLost()
    {
        var ring = new GrpcRingTransport(1, 0, [_addresses[0], _addresses[1]]);
        _registries[0].Enter(1, ring);
        await using var connection = await PeerConnections.Plaintext.OpenAsync(new Uri(_addresses[0]), CancellationToken.None);
        connection.Write(new PullHello(new PullRequest(1, 1, 2), ExchangeOptions.SmallestWindow).ToBytes(new Uri(_addresses[0])));
        await SpinAsync(() => ring.IsBroken, TimeSpan.FromSeconds(15));
        var broken = await Assert.ThrowsAsync<RingBrokenException>(() => new RingAllReduce(ring).RunAsync(1, Buckets.Gradients, new ExchangeBuffer(100, 5)).WaitAsync(Timeout));
        Assert.Equal(1, broken.SuspectRank);
        await ring.DisposeAsync();
    }

    [Fact]
    public async Task AMemberThatAbortsBreaksTheRingOfAllWithoutSuspicion()
    {
        var rings = Enter(1, 3);
        var runs = rings.Take(2).Select(r => new RingAllReduce(r).RunAsync(1, Buckets.Gradients, new ExchangeBuffer(100, 5))).ToArray();
        rings[2].Abort();
        foreach (var run in runs)
        {
            var broken = await Assert.ThrowsAsync<RingBrokenException>(() => run.WaitAsync(Timeout));
            Assert.Equal(-1, broken.SuspectRank);
        }
    }

    [Fact]
    public async Task AMemberThatIsGoneIsSuspected()
    {
        var rings = Enter(1, 2);
        await RunAsync(rings, 1);
        var run = new RingAllReduce(rings[1]).RunAsync(2, Buckets.Gradients, new ExchangeBuffer(100, 5));
        await _apps[0].StopAsync(new CancellationToken(true));
        var broken = await Assert.ThrowsAsync<RingBrokenException>(() => run.WaitAsync(Timeout));
        Assert.Equal(0, broken.SuspectRank);
    }

    [Theory]
    [InlineData("short")]
    [InlineData("magic")]
    [InlineData("step")]
    [InlineData("offset")]
    [InlineData("count")]
    [InlineData("length")]
    [InlineData("huge")]
    public async Task AHostileChunkBreaksTheRingAndTouchesNothing(string kind)
    {
        var port = FreePort.Next();
        await using var hostile = await TestHost.StartAsync(port, b => b.Services.AddSingleton(new HostileService(kind)), a => a.MapGrpcService<HostileService>());
        var ring = new GrpcRingTransport(1, 0, [_addresses[0], $"http://localhost:{port}"]);
        _registries[0].Enter(1, ring);
        var buffer = new ExchangeBuffer(100, 5);
        var broken = await Assert.ThrowsAsync<RingBrokenException>(() => new RingAllReduce(ring).RunAsync(3, Buckets.Gradients, buffer).WaitAsync(Timeout));
        Assert.Equal(1, broken.SuspectRank);
        Assert.All(buffer.Gradients.ToArray(), sum => Assert.Equal(0, sum));
        await ring.DisposeAsync();
    }

    [Fact]
    public async Task AnAddressThatTakesNoConnectionsIsLeftAsSoonAsNobodyWantsIt()
    {
        using var full = new TcpListener(IPAddress.Loopback, 0);
        full.Start(1);
        var endpoint = (IPEndPoint)full.LocalEndpoint;
        var clients = new List<Socket>();
        try
        {
            // Nobody accepts, so that at some time the system answers no more.
            Task waiting;
            do
            {
                clients.Add(new Socket(SocketType.Stream, ProtocolType.Tcp));
                waiting = clients[^1].ConnectAsync(endpoint);
                await Task.WhenAny(waiting, Task.Delay(500));
            }
            while (waiting.IsCompleted && clients.Count < 100);
            Assert.False(waiting.IsCompleted);
            using var over = new CancellationTokenSource(300);
            var start = TimeProvider.System.GetTimestamp();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => PeerConnections.Plaintext.OpenAsync(new Uri($"http://127.0.0.1:{endpoint.Port}"), over.Token).WaitAsync(Timeout));
            Assert.InRange(TimeProvider.System.GetElapsedTime(start).TotalSeconds, 0.2, 3);
        }
        finally
        {
            clients.ForEach(client => client.Dispose());
        }
    }

    [Fact]
    public async Task APeerThatSaysNothingBreaksTheRing()
    {
        using var mute = new TcpListener(IPAddress.Loopback, 0);
        mute.Start();
        await using var ring = new GrpcRingTransport(1, 0, [_addresses[0], $"http://127.0.0.1:{((IPEndPoint)mute.LocalEndpoint).Port}"]);
        _registries[0].Enter(1, ring);
        var broken = await Assert.ThrowsAsync<RingBrokenException>(() => ring.ReceiveAsync(default, new RingAllReduce(ring)).WaitAsync(Timeout));
        Assert.Contains("silent", broken.Message);
        Assert.Equal(1, broken.SuspectRank);
    }

    private GrpcRingTransport[] Enter(long epoch, int size)
    {
        var rings = Enumerable.Range(0, size).Select(rank => new GrpcRingTransport(epoch, rank, [.. _addresses.Take(size)])).ToArray();
        for (var rank = 0; rank < size; rank++)
        {
            _registries[rank].Enter(epoch, rings[rank]);
        }

        return rings;
    }

    private static Task RunAsync(GrpcRingTransport[] rings, long step) =>
        Task.WhenAll(rings.Select(r => new RingAllReduce(r).RunAsync(step, Buckets.Gradients, new ExchangeBuffer(100, 5)))).WaitAsync(Timeout);

    // The service is gRPC as any other.
    private static Method<PullRequest, byte[]> ByAnotherClient { get; } = new(
        MethodType.ServerStreaming, GradientStream.ServiceName, "Pull", GradientStream.ServerMethod.RequestMarshaller, Marshallers.Create<byte[]>(b => b, b => b));

    private static async Task SpinAsync(Func<bool> condition, TimeSpan limit)
    {
        var start = TimeProvider.System.GetTimestamp();
        while (!condition())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(start) < limit);
            await Task.Delay(50, TestContext.Current.CancellationToken);
        }
    }

    private static async Task PullAsync(string address, PullRequest request)
    {
        using var channel = PeerChannels.Create(address);
        using var call = channel.CreateCallInvoker().AsyncServerStreamingCall(ByAnotherClient, null, default, request);
        await call.ResponseStream.MoveNext(CancellationToken.None).WaitAsync(Timeout);
    }

    /// <summary>The gradient stream with messages that are any bytes.</summary>
    [BindServiceMethod(typeof(RawServiceBase), nameof(BindService))]
    internal abstract class RawServiceBase
    {
        private static readonly Marshaller<byte[]> Raw = Marshallers.Create(b => b, b => b);

        public static void BindService(ServiceBinderBase binder, RawServiceBase? service) => binder.AddMethod(
            new Method<byte[], byte[]>(MethodType.ServerStreaming, GradientStream.ServiceName, "Pull", Raw, Raw),
            service is null ? null : new ServerStreamingServerMethod<byte[], byte[]>(service.Pull));

        public abstract Task Pull(byte[] request, IServerStreamWriter<byte[]> responseStream, ServerCallContext context);
    }

    /// <summary>Answers a pull with one wrong message.</summary>
    internal sealed class HostileService(string kind) : RawServiceBase
    {
        public override async Task Pull(byte[] request, IServerStreamWriter<byte[]> responseStream, ServerCallContext context)
        {
            // What rank 0 of 2 expects in step 3: segment 1 of 105 elements.
            var right = new ChunkHeader(1, 3, Buckets.Gradients, 0, 53, 52);
            var header = kind switch
            {
                "step" => right with { Step = 2 },
                "offset" => right with { Offset = -53 },
                "count" => right with { Count = int.MaxValue },
                _ => right,
            };
            var bytes = new byte[kind switch { "short" => 7, "length" => ChunkHeader.Size + 5, "huge" => 8_000_000, _ => ChunkHeader.Size + (52 * 8) }];
            if (kind != "short")
            {
                header.WriteTo(bytes);
                bytes.AsSpan(ChunkHeader.Size).Fill(0xFF);
            }

            if (kind == "magic")
            {
                BinaryPrimitives.WriteInt32LittleEndian(bytes, 42);
            }

            await responseStream.WriteAsync(bytes);
            await Task.Delay(System.Threading.Timeout.Infinite, context.CancellationToken).ContinueWith(_ => { }, TaskScheduler.Default);
        }
    }
}
