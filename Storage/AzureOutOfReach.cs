using System.Net.Sockets;
using Azure;
using Azure.Identity;

namespace LlmPipeline.Storage;

/// <summary>
/// What Azure's clients throw when the service is out of reach: all tries together as an <see cref="AggregateException"/>, a
/// cancellation that nobody asked for when a try took too long, or that there is no token to be had. It becomes an
/// <see cref="IOException"/>, which whoever uses a store knows.
/// </summary>
internal static class AzureOutOfReach
{
    /// <summary>Whether an exception says that the service is out of reach.</summary>
    /// <param name="exception">What a client threw.</param>
    /// <param name="cancellationToken">The caller's.</param>
    public static bool Is(Exception exception, CancellationToken cancellationToken) => exception switch
    {
        AggregateException tries => tries.InnerExceptions.All(e =>
            e is RequestFailedException or AuthenticationFailedException or IOException or SocketException or HttpRequestException or OperationCanceledException),
        OperationCanceledException => !cancellationToken.IsCancellationRequested,
        AuthenticationFailedException => true,
        _ => false,
    };

    /// <summary>The exception to throw instead.</summary>
    /// <param name="exception">What a client threw.</param>
    /// <param name="blob">What was asked for; only the service's address is told, as the rest may hold a key.</param>
    /// <param name="cancellationToken">The caller's.</param>
    /// <exception cref="OperationCanceledException">The caller has gone meanwhile.</exception>
    public static IOException Error(Exception exception, Uri blob, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var last = exception is AggregateException { InnerExceptions: [.., var failed] } ? failed : exception;
        return new IOException(
            $"The blob store at {blob.GetLeftPart(UriPartial.Authority)} is out of reach ({last.Message.Split('\n')[0].Trim().TrimEnd('.')}). "
            + "Check the network, and the connection string and credentials of the storage (ConnectionStrings__storage); then try again.",
            exception);
    }
}
