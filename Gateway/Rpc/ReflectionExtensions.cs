using Grpc.Reflection;
using LlmPipeline.Gateway.Forwarding;
using LlmPipeline.Inference.V1;
using ServiceDescriptor = Google.Protobuf.Reflection.ServiceDescriptor;

namespace LlmPipeline.Gateway.Rpc;

/// <summary>gRPC reflection (v1 and v1alpha) over the Gateway's own services and those it forwards.</summary>
internal static class ReflectionExtensions
{
    private static readonly ServiceDescriptor[] Services =
    [
        InferenceService.Descriptor,
        .. Backend.All.SelectMany(b => b.Services),
        Grpc.Health.V1.Health.Descriptor,
        Grpc.Reflection.V1.ServerReflection.Descriptor,
        Grpc.Reflection.V1Alpha.ServerReflection.Descriptor,
    ];

    public static void AddReflection(this IServiceCollection services)
    {
        services.AddSingleton(new ReflectionServiceImpl(Services));
        services.AddSingleton(new ReflectionV1ServiceImpl(Services));
    }

    public static void MapReflection(this IEndpointRouteBuilder endpoints)
    {
        endpoints.MapGrpcService<ReflectionServiceImpl>();
        endpoints.MapGrpcService<ReflectionV1ServiceImpl>();
    }
}
