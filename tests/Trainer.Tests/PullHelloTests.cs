using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Tests;

public sealed class PullHelloTests
{
    private static readonly PullHello Hello = new(new PullRequest(7, 2, 3), ExchangeOptions.SmallestWindow);
    private static readonly byte[] Sent = Hello.ToBytes(new Uri("http://worker-2:5312"));

    [Theory]
    [InlineData("http://localhost:1")]
    [InlineData("https://worker.example.org:5312")]
    [InlineData("http://[::1]:5312")]
    public void WhatAClientSendsIsRead(string address)
    {
        byte[] bytes = [.. Hello.ToBytes(new Uri(address)), 1, 2, 3];
        Assert.True(PullHello.TryRead(bytes, out var hello, out var length));
        Assert.Equal(Hello, hello);
        Assert.Equal(bytes.Length - 3, length);
    }

    [Fact]
    public void APartIsWaitedFor()
    {
        for (var length = 0; length < Sent.Length; length++)
        {
            Assert.Null(PullHello.TryRead(Sent.AsSpan(0, length), out _, out _));
        }
    }

    [Fact]
    public void AnotherBeginningIsLeftToKestrel()
    {
        Assert.False(PullHello.TryRead("GET / HTTP/1.1\r\n"u8, out _, out _));
        Assert.False(PullHello.TryRead([.. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, .. Http2Frames.SettingsFrame(), .. Http2Frames.SettingsFrame()], out _, out _));

        // Settings of another client, which may wait for the server's before it goes on.
        Assert.False(PullHello.TryRead([.. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, .. Http2Frames.SettingsFrame()], out _, out _));

        // Another method of the same service, a window in which no message fits, and smaller frames.
        Assert.False(PullHello.TryRead(With("Pull"u8, "Puff"u8), out _, out _));
        Assert.False(PullHello.TryRead((Hello with { Window = ExchangeOptions.SmallestWindow - 1 }).ToBytes(new Uri("http://a")), out _, out _));
        Assert.False(PullHello.TryRead(With([0, 5, 0, 0x10, 0, 0], [0, 5, 0, 0x0F, 0, 0]), out _, out _));
    }

    [Fact]
    public void AnyBytesAreReadOrRefusedWithoutAnError()
    {
        var random = new Random(1);
        for (var i = 0; i < 20_000; i++)
        {
            var bytes = Sent.ToArray();
            for (var flips = random.Next(1, 4); flips > 0; flips--)
            {
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            }

            if (PullHello.TryRead(bytes.AsSpan(0, random.Next(bytes.Length + 1)), out var hello, out var length) == true)
            {
                Assert.True(hello!.Window >= ExchangeOptions.SmallestWindow && length == bytes.Length);
            }
        }
    }

    private static byte[] With(ReadOnlySpan<byte> old, ReadOnlySpan<byte> replacement)
    {
        var bytes = Sent.ToArray();
        var at = bytes.AsSpan().LastIndexOf(old);
        Assert.True(at > 0);
        replacement.CopyTo(bytes.AsSpan(at));
        return bytes;
    }
}
