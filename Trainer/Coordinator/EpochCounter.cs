using System.Globalization;
using LlmPipeline.Storage;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Numbers of epochs: each is durable before it is used, so that they grow over restarts.</summary>
internal sealed class EpochCounter(IBlobStore store)
{
    /// <summary>The blob that holds the newest number.</summary>
    public const string Blob = "coordinator.epoch";

    private readonly AsyncLock _gate = new();

    /// <summary>The next number, from 1.</summary>
    /// <exception cref="BlobConditionException">Another coordinator counts too: this one has lost its lease.</exception>
    public async Task<long> NextAsync(CancellationToken cancellationToken)
    {
        using (await _gate.EnterAsync(cancellationToken))
        {
            var stored = await store.TryReadTextAsync(Blob, cancellationToken);
            var next = (stored is (var text, _) ? long.Parse(text, CultureInfo.InvariantCulture) : 0) + 1;
            var condition = stored is (_, var eTag) ? BlobCondition.Matches(eTag) : BlobCondition.NotExists;
            await store.WriteTextAsync(Blob, next.ToString(CultureInfo.InvariantCulture), condition, cancellationToken);
            return next;
        }
    }
}
