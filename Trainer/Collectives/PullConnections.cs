using System.Buffers;
using System.Diagnostics.CodeAnalysis;
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
        if (await ReadHelloAsync(connection) is { } hello)
        {
            await PullServer.RunAsync(connection, hello, registry);
        }
        else
        {
            await next(connection);
        }
    }

    // Null, and nothing read, for any other beginning.
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

            if (isHello == false || result.IsCompleted || result.IsCanceled)
            {
                input.AdvanceTo(result.Buffer.Start);
                return null;
            }

            input.AdvanceTo(result.Buffer.Start, result.Buffer.End);
        }
    }
}
