using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Net.Sockets;
using LlmPipeline.ServiceDefaults;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>Keeps the connections on which <see cref="PullStream"/> asks for gradients; all others go on to Kestrel's HTTP/2.</summary>
[SuppressMessage("Performance", "CA1812", Justification = "Made by dependency injection.")]
internal sealed class PullConnections(RingRegistry registry) : IConnectionFilter
{
    /// <summary>A connection that says nothing for as long is Kestrel's.</summary>
    private static readonly TimeSpan HelloTime = TimeSpan.FromSeconds(10);

    /// <inheritdoc/>
    public async Task RunAsync(ConnectionContext connection, ConnectionDelegate next)
    {
        PullHello? hello;
        try
        {
            hello = await ReadHelloAsync(connection);
        }
        catch (Exception exception) when (exception is IOException or SocketException or OperationCanceledException)
        {
            // It broke before it said anything.
            return;
        }

        await (hello is null ? next(connection) : PullServer.RunAsync(connection, hello, registry));
    }

    /// <summary>Null, and nothing read, for any other beginning.</summary>
    /// <exception cref="OperationCanceledException">It began as a hello and did not go on.</exception>
    private static async Task<PullHello?> ReadHelloAsync(ConnectionContext connection)
    {
        var input = connection.Transport.Input;
        var closing = connection.Features.Get<IConnectionLifetimeNotificationFeature>()?.ConnectionClosedRequested ?? default;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(closing);
        limit.CancelAfter(HelloTime);
        using var registration = limit.Token.Register(input.CancelPendingRead);
        while (true)
        {
            var result = await input.ReadAsync();
            var isHello = PullHello.TryRead(result.Buffer.ToArray(), out var hello, out var length);
            if (isHello == true)
            {
                input.AdvanceTo(result.Buffer.GetPosition(length));
                return hello;
            }

            if (result.IsCanceled && isHello is null && !result.Buffer.IsEmpty)
            {
                // Kestrel would wait for further bytes before it looks at these.
                connection.Abort();
                throw new OperationCanceledException();
            }

            if (isHello == false || result.IsCompleted || result.IsCanceled)
            {
                input.AdvanceTo(result.Buffer.Start);
                return null;
            }

            input.AdvanceTo(result.Buffer.Start, result.Buffer.End);
        }
    }
}
