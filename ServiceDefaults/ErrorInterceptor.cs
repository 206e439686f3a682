using Grpc.Core;
using Grpc.Core.Interceptors;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace LlmPipeline.ServiceDefaults;

/// <summary>
/// Turns exceptions of handlers into RPC errors: a bad argument is INVALID_ARGUMENT with its message, a damaged directory in
/// storage DATA_LOSS with its message, a cancelled call CANCELLED (UNAVAILABLE while the service shuts down), and anything else
/// INTERNAL, whose details stay in the service's log.
/// </summary>
public sealed partial class ErrorInterceptor(IHostApplicationLifetime lifetime, ILogger<ErrorInterceptor> logger) : Interceptor
{
    public override Task<TResponse> UnaryServerHandler<TRequest, TResponse>(
        TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation) =>
        MapErrorsAsync(context, () => continuation(request, context));

    public override Task<TResponse> ClientStreamingServerHandler<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requestStream,
        ServerCallContext context,
        ClientStreamingServerMethod<TRequest, TResponse> continuation) =>
        MapErrorsAsync(context, () => continuation(requestStream, context));

    public override Task ServerStreamingServerHandler<TRequest, TResponse>(
        TRequest request,
        IServerStreamWriter<TResponse> responseStream,
        ServerCallContext context,
        ServerStreamingServerMethod<TRequest, TResponse> continuation) =>
        MapErrorsAsync(context, () => WithResult(continuation(request, responseStream, context)));

    public override Task DuplexStreamingServerHandler<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requestStream,
        IServerStreamWriter<TResponse> responseStream,
        ServerCallContext context,
        DuplexStreamingServerMethod<TRequest, TResponse> continuation) =>
        MapErrorsAsync(context, () => WithResult(continuation(requestStream, responseStream, context)));

    private static async Task<bool> WithResult(Task task)
    {
        await task;
        return true;
    }

    private async Task<T> MapErrorsAsync<T>(ServerCallContext context, Func<Task<T>> call)
    {
        try
        {
            return await call();
        }
        catch (Exception e) when (e is not RpcException)
        {
            throw Map(e, context);
        }
    }

    private RpcException Map(Exception e, ServerCallContext context)
    {
        switch (e)
        {
            case ArgumentException argument:
                return RpcErrors.Create(StatusCode.InvalidArgument, ReasonOf(argument), MessageOf(argument));
            case IOException when IsOfStorage(e, "CorruptDirectoryException"):
                return RpcErrors.Create(StatusCode.DataLoss, ErrorReasons.CorruptData, e.Message);
            case OperationCanceledException when !context.CancellationToken.IsCancellationRequested
                && lifetime.ApplicationStopping.IsCancellationRequested:
                return new RpcException(new Status(StatusCode.Unavailable, "The service is shutting down. Try again in a moment."));
            case OperationCanceledException:
                return new RpcException(new Status(StatusCode.Cancelled, "The call was cancelled."));
            default:
                CallFailed(context.Method, e);
                return RpcErrors.Create(
                    StatusCode.Internal, ErrorReasons.Internal, $"{context.Method} failed unexpectedly. The service's log says why.");
        }
    }

    private static string ReasonOf(ArgumentException e) =>
        IsOfStorage(e, "InvalidResourceNameException") ? ErrorReasons.InvalidName : ErrorReasons.InvalidSpec;

    // Storage's exceptions go by their names: this project does not reference it.
    private static bool IsOfStorage(Exception e, string name) => e.GetType().Name == name;

    private static string MessageOf(ArgumentException e)
    {
        var suffix = e.Message.LastIndexOf(" (Parameter '", StringComparison.Ordinal);
        return suffix < 0 ? e.Message : e.Message[..suffix];
    }

    [LoggerMessage(10, LogLevel.Error, "{Method} failed; the caller gets INTERNAL without details")]
    private partial void CallFailed(string method, Exception exception);
}
