using LlmPipeline.Datasets.V1;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Runs.V1;
using ServiceDescriptor = Google.Protobuf.Reflection.ServiceDescriptor;

namespace LlmPipeline.Gateway.Forwarding;

/// <summary>A service behind the Gateway, and the gRPC services that are forwarded to it.</summary>
/// <param name="Name">As in the configuration: <c>{Name}:Endpoint</c> is its URL.</param>
/// <param name="Services">Descriptors of the gRPC services.</param>
internal sealed record Backend(string Name, IReadOnlyList<ServiceDescriptor> Services)
{
    public static readonly Backend Trainer = new("Trainer", [RunService.Descriptor]);

    /// <summary>All of them.</summary>
    public static readonly IReadOnlyList<Backend> All =
    [
        Trainer,
        new("Preprocessor", [DatasetService.Descriptor, TokenizerService.Descriptor]),
        new("Evaluator", [EvaluationService.Descriptor]),
    ];

    /// <summary>Configuration key of its URL.</summary>
    public string EndpointKey => $"{Name}:Endpoint";
}
