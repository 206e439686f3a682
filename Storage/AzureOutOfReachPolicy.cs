using Azure.Core;
using Azure.Core.Pipeline;

namespace LlmPipeline.Storage;

/// <summary>Around all tries of every request: see <see cref="AzureOutOfReach"/>.</summary>
internal sealed class AzureOutOfReachPolicy : HttpPipelinePolicy
{
    public override async ValueTask ProcessAsync(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline)
    {
        try
        {
            await ProcessNextAsync(message, pipeline);
        }
        catch (Exception exception) when (AzureOutOfReach.Is(exception, message.CancellationToken))
        {
            throw AzureOutOfReach.Error(exception, message.Request.Uri.ToUri(), message.CancellationToken);
        }
    }

    public override void Process(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline)
    {
        try
        {
            ProcessNext(message, pipeline);
        }
        catch (Exception exception) when (AzureOutOfReach.Is(exception, message.CancellationToken))
        {
            throw AzureOutOfReach.Error(exception, message.Request.Uri.ToUri(), message.CancellationToken);
        }
    }
}
