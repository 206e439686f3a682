using System.Diagnostics;
using LlmPipeline.Gateway.Catalogue;

namespace LlmPipeline.Gateway.Telemetry;

/// <summary>Spans of the Gateway.</summary>
internal static class GatewayTracing
{
    /// <summary>Name of the source, and of the meter.</summary>
    public const string Name = "LlmPipeline.Gateway";

    public static readonly ActivitySource Source = new(Name);

    /// <summary>Context of the run that made a version; the default value when it is not known.</summary>
    public static ActivityContext ContextOf(ModelVersion version) =>
        ActivityContext.TryParse(version.Traceparent, null, isRemote: true, out var context) ? context : default;
}
