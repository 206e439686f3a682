using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using LlmPipeline.Faults.Proxy;

namespace LlmPipeline.Faults.Tests;

/// <summary>The proxy does what it says, and nothing else.</summary>
public sealed class FaultProxyTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private readonly TcpListener _server = new(IPAddress.Loopback, 0);
    private readonly SemaphoreSlim _connecting = new(1);
    private readonly FaultProxy _proxy;

    public FaultProxyTests()
    {
        _server.Start();
        _proxy = new FaultProxy(_server.LocalEndpoint);
    }

    [Fact]
    public async Task BytesArriveAsTheyWereSentBothWaysOnManyConnections()
    {
        var connections = await Task.WhenAll(Enumerable.Range(0, 20).Select(async i =>
        {
            using var pair = await ConnectAsync();
            var (there, back) = (Bytes(i, 300_000), Bytes(i + 100, 200_000));
            var sending = Task.WhenAll(pair.Client.SendAsync(there), pair.Server.SendAsync(back));
            var (gotThere, gotBack) = (await ReadAsync(pair.Server, there.Length), await ReadAsync(pair.Client, back.Length));
            await sending;
            return gotThere.AsSpan().SequenceEqual(there) && gotBack.AsSpan().SequenceEqual(back);
        }));
        Assert.All(connections, Assert.True);
        Assert.Equal((20 * 300_000, 20 * 200_000), (_proxy.ToTarget.Passed, _proxy.FromTarget.Passed));
    }

    [Fact]
    public async Task TheEndOfAStreamArrivesBehindItsBytes()
    {
        using var pair = await ConnectAsync();
        await pair.Client.SendAsync(new byte[100_000]);
        pair.Client.Shutdown(SocketShutdown.Send);
        await ReadAsync(pair.Server, 100_000);
        Assert.Equal(0, await pair.Server.ReceiveAsync(new byte[1]).WaitAsync(Patience));
        await pair.Server.SendAsync(new byte[10]);
        await ReadAsync(pair.Client, 10);
    }

    [Fact]
    public async Task ADelayHoldsWhatComesInFromThenOnAndJitterKeepsTheOrder()
    {
        using var pair = await ConnectAsync();
        (_proxy.ToTarget.Delay, _proxy.ToTarget.Jitter) = (TimeSpan.FromMilliseconds(150), TimeSpan.FromMilliseconds(40));
        var clock = Stopwatch.StartNew();
        var sent = Bytes(1, 50);
        foreach (var value in sent)
        {
            await pair.Client.SendAsync(new[] { value });
        }

        Assert.Equal(sent, await ReadAsync(pair.Server, sent.Length));
        Assert.InRange(clock.ElapsedMilliseconds, 150, 15_000);

        // The other way is as fast as ever: it does not wait for the delay.
        _proxy.ToTarget.Delay = TimeSpan.FromSeconds(100);
        await pair.Server.SendAsync(new byte[10]);
        await ReadAsync(pair.Client, 10);
    }

    [Fact]
    public async Task ANarrowLinkTakesItsTimeOverAllConnectionsTogether()
    {
        using var first = await ConnectAsync();
        using var second = await ConnectAsync();
        _proxy.ToTarget.BytesPerSecond = 400_000;
        var clock = Stopwatch.StartNew();
        var sending = Task.WhenAll(first.Client.SendAsync(new byte[100_000]), second.Client.SendAsync(new byte[100_000]));
        await Task.WhenAll(ReadAsync(first.Server, 100_000), ReadAsync(second.Server, 100_000));
        await sending;
        Assert.InRange(clock.Elapsed.TotalSeconds, 0.45, 10);
    }

    [Fact]
    public async Task AResetComesAfterExactlyItsBytes()
    {
        using var pair = await ConnectAsync();
        _proxy.ToTarget.ResetAt = 70_001;
        await pair.Client.SendAsync(new byte[200_000]);
        await ReadAsync(pair.Server, 70_001);
        var error = await Assert.ThrowsAsync<SocketException>(() => pair.Server.ReceiveAsync(new byte[1]).WaitAsync(Patience));
        Assert.Equal(SocketError.ConnectionReset, error.SocketErrorCode);
        Assert.Equal(70_001, _proxy.ToTarget.Passed);

        _proxy.Heal();
        using var next = await ConnectAsync();
        await next.Client.SendAsync(new byte[200_000]);
        await ReadAsync(next.Server, 200_000);
    }

    [Fact]
    public async Task AllConnectionsCanBeResetAtOnce()
    {
        using var first = await ConnectAsync();
        using var second = await ConnectAsync();
        Assert.Equal(2, _proxy.Reset());
        foreach (var socket in new[] { first.Client, first.Server, second.Client, second.Server })
        {
            var error = await Assert.ThrowsAsync<SocketException>(() => socket.ReceiveAsync(new byte[1]).WaitAsync(Patience));
            Assert.Equal(SocketError.ConnectionReset, error.SocketErrorCode);
        }
    }

    [Fact]
    public async Task SilenceOneWayLeavesTheOtherAndWhatWasSentArrivesAfterIt()
    {
        using var pair = await ConnectAsync();
        _proxy.ToTarget.IsSilent = true;
        await pair.Client.SendAsync(Bytes(7, 1000));
        var receiving = ReadAsync(pair.Server, 1000);
        await pair.Server.SendAsync(new byte[10]);
        await ReadAsync(pair.Client, 10);
        Assert.False(receiving.IsCompleted);
        Assert.Equal(0, _proxy.ToTarget.Passed);

        _proxy.ToTarget.IsSilent = false;
        Assert.Equal(Bytes(7, 1000), await receiving);
    }

    [Fact]
    public async Task APartitionHidesThatTheOtherSideIsGoneUntilItHeals()
    {
        using var pair = await ConnectAsync();

        // The proxy may hear of its own connection later than the server does.
        await pair.Server.SendAsync(new byte[1]);
        await ReadAsync(pair.Client, 1);
        _proxy.IsPartitioned = true;
        pair.Server.LingerState = new LingerOption(true, 0);
        pair.Server.Close();
        await pair.Client.SendAsync(new byte[10]);
        var receiving = pair.Client.ReceiveAsync(new byte[1]);

        // A connection that is made meanwhile hears nothing either.
        using var late = new TcpClient();
        await late.ConnectAsync(_proxy.Endpoint);
        await late.Client.SendAsync(new byte[10]);
        using var accepted = await _server.AcceptSocketAsync().WaitAsync(Patience);
        var hearing = ReadAsync(accepted, 10);
        Assert.False(receiving.IsCompleted || hearing.IsCompleted);

        _proxy.IsPartitioned = false;
        var error = await Assert.ThrowsAsync<SocketException>(() => receiving.WaitAsync(Patience));
        Assert.Equal(SocketError.ConnectionReset, error.SocketErrorCode);
        await hearing;
    }

    [Fact]
    public async Task ABudgetIsSpentAndGoesOnWhenThereIsMore()
    {
        using var pair = await ConnectAsync();
        _proxy.ToTarget.Budget = 12_345;
        await pair.Client.SendAsync(new byte[20_000]);
        await ReadAsync(pair.Server, 12_345);
        var rest = ReadAsync(pair.Server, 20_000 - 12_345);
        Assert.Equal((12_345, 0), (_proxy.ToTarget.Passed, _proxy.ToTarget.Budget));
        Assert.False(rest.IsCompleted);
        _proxy.ToTarget.Budget = null;
        await rest;
    }

    [Fact]
    public async Task WhereNobodyListensConnectionsAreReset()
    {
        _server.Stop();
        var error = await Assert.ThrowsAsync<SocketException>(async () =>
        {
            using var client = new TcpClient();
            await client.ConnectAsync(_proxy.Endpoint);
            await client.Client.ReceiveAsync(new byte[1]).WaitAsync(Patience);
        });
        Assert.Equal(SocketError.ConnectionReset, error.SocketErrorCode);
    }

    [Fact]
    public async Task ARefusalIsNotHeardThroughAPartition()
    {
        _server.Stop();
        _proxy.IsPartitioned = true;
        using var client = new TcpClient();
        await client.ConnectAsync(_proxy.Endpoint);
        var receiving = client.Client.ReceiveAsync(new byte[1]);
        await Task.Delay(100);
        Assert.False(receiving.IsCompleted);

        _proxy.IsPartitioned = false;
        var error = await Assert.ThrowsAsync<SocketException>(() => receiving.WaitAsync(Patience));
        Assert.Equal(SocketError.ConnectionReset, error.SocketErrorCode);
    }

    public void Dispose()
    {
        _proxy.Dispose();
        _server.Dispose();
        _connecting.Dispose();
    }

    private async Task<Pair> ConnectAsync()
    {
        var client = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };

        // Connections are matched in the order in which they arrive, so one is made at a time.
        await _connecting.WaitAsync(Patience);
        try
        {
            await client.ConnectAsync(_proxy.Endpoint);
            return new Pair(client, await _server.AcceptSocketAsync().WaitAsync(Patience));
        }
        finally
        {
            _connecting.Release();
        }
    }

    private static byte[] Bytes(int seed, int count)
    {
        var bytes = new byte[count];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    private static async Task<byte[]> ReadAsync(Socket socket, int count)
    {
        var bytes = new byte[count];
        for (var read = 0; read < count;)
        {
            var got = await socket.ReceiveAsync(bytes.AsMemory(read)).AsTask().WaitAsync(Patience);
            Assert.True(got > 0, $"The stream ended after {read} of {count} bytes.");
            read += got;
        }

        return bytes;
    }

    private sealed record Pair(Socket Client, Socket Server) : IDisposable
    {
        public void Dispose()
        {
            Client.Dispose();
            Server.Dispose();
        }
    }
}
