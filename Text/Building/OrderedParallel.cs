using System.Runtime.CompilerServices;
using System.Threading.Channels;

namespace LlmPipeline.Text.Building;

/// <summary>Work on many items at once that gives its results in the order of the items.</summary>
internal static class OrderedParallel
{
    /// <summary>
    /// Transforms items on the thread pool while the source is read ahead. At most <paramref name="degree"/> items are in work, and
    /// as many results wait to be taken: memory stays bounded however slow the reader is.
    /// </summary>
    public static async IAsyncEnumerable<TOut> SelectOrdered<TIn, TOut>(
        this IAsyncEnumerable<TIn> source, Func<TIn, TOut> transform, int degree, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        using var slots = new SemaphoreSlim(degree);
        var results = Channel.CreateBounded<Task<TOut>>(new BoundedChannelOptions(degree) { SingleReader = true, SingleWriter = true });
        var reading = Task.Run(() => ReadAsync(source, item => Run(item, transform, slots), slots, results.Writer, stop.Token), CancellationToken.None);
        try
        {
            await foreach (var result in results.Reader.ReadAllAsync(cancellationToken))
            {
                yield return await result;
            }
        }
        finally
        {
            // Also when the caller stops early or a transform failed: nothing runs on after this.
            await stop.CancelAsync();
            await reading;
            while (results.Reader.TryRead(out var result))
            {
                await result.ContinueWith(static t => t.Exception, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            }
        }
    }

    private static async Task ReadAsync<TIn, TOut>(
        IAsyncEnumerable<TIn> source, Func<TIn, Task<TOut>> start, SemaphoreSlim slots, ChannelWriter<Task<TOut>> results, CancellationToken cancellationToken)
    {
        try
        {
            await foreach (var item in source.WithCancellation(cancellationToken))
            {
                await slots.WaitAsync(cancellationToken);
                var result = start(item);
                await results.WriteAsync(result, cancellationToken);
            }

            results.Complete();
        }
        catch (Exception exception)
        {
            results.Complete(exception);
        }
    }

    private static Task<TOut> Run<TIn, TOut>(TIn item, Func<TIn, TOut> transform, SemaphoreSlim slots) => Task.Run(() =>
    {
        try
        {
            return transform(item);
        }
        finally
        {
            slots.Release();
        }
    });
}
