using Grpc.AspNetCore.Server;
using Microsoft.Extensions.DependencyInjection;

namespace LlmPipeline.ServiceDefaults;

/// <summary>How every service serves gRPC.</summary>
public static class GrpcDefaults
{
    /// <summary>Largest message that a service takes or gives: far above any of ours, far below what would exhaust memory.</summary>
    public const int MaxMessageBytes = 16 << 20;

    /// <summary>Adds gRPC with the message size limit, and with errors in canonical codes (<see cref="ErrorInterceptor"/>).</summary>
    public static IGrpcServerBuilder AddLlmPipelineGrpc(this IServiceCollection services) => services.AddGrpc(grpc =>
    {
        grpc.MaxReceiveMessageSize = MaxMessageBytes;
        grpc.MaxSendMessageSize = MaxMessageBytes;
        grpc.Interceptors.Add<ErrorInterceptor>();
    });
}
