using System.Diagnostics;
using LlmPipeline.Models;
using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// The exchange. Ranges of the gradient go round while the backward pass is still computing those before them; what comes last has
/// the slots, so that everything that is decided on is sent when the share is done. All members send the same ranges in the same order.
/// </summary>
internal sealed partial class TrainingLoop
{
    private readonly List<(long Begin, long End)> _spans = [];
    private IReadOnlyList<GradientRange> _ranges = [];
    private Task _running = Task.CompletedTask;
    private int _sent;

    /// <summary>Elements below which parts of a network go together: a range costs two rounds of the ring.</summary>
    public int SmallestRange { get; init; } = 512 * 1024;

    /// <summary>Sends the ranges that a backward pass is done with, and that were not sent.</summary>
    /// <param name="step">The step.</param>
    /// <param name="part">See <see cref="GradientRange"/>.</param>
    /// <param name="take">Makes a range, by offset and length, a part of this worker's share.</param>
    private void SendRanges(long step, int part, Action<int, int>? take)
    {
        while (_sent < _ranges.Count && _ranges[_sent].Part >= part)
        {
            var range = _ranges[_sent++];
            take?.Invoke(range.Offset, range.Length);
            _running = RunAfterAsync(_running, step, range.Offset, range.Length);
        }
    }

    /// <summary>Sends what is left, and waits for all of it.</summary>
    /// <returns>Time of the exchange that passed before this; null on one worker.</returns>
    private TimeSpan? FinishRanges(long step)
    {
        if (_allReduce is null)
        {
            _gradients.Finish();
            return null;
        }

        var computed = Stopwatch.GetTimestamp();
        SendRanges(step, 0, null);
        var rest = _replica.Model.Parameters.DecayedLength;
        var all = RunAfterAsync(_running, step, rest, _gradients.Length - rest);
        (_running, _sent) = (all, 0);
        try
        {
            WaitFor(all);
        }
        finally
        {
            _running = Task.CompletedTask;
        }

        var hidden = _spans.Sum(span => Math.Max(0, Math.Min(span.End, computed) - span.Begin));
        _spans.Clear();
        return Stopwatch.GetElapsedTime(0, hidden);
    }

    /// <summary>Lets go of ranges that are on their way: the epoch is over for this worker.</summary>
    private void AbandonRanges()
    {
        _place.Ring?.Abort();
        _running.ContinueWith(static _ => { }, TaskScheduler.Default).Wait();
        (_running, _sent) = (Task.CompletedTask, 0);
    }

    private async Task RunAfterAsync(Task previous, long step, int offset, int count)
    {
        await previous.ConfigureAwait(false);
        var begin = Stopwatch.GetTimestamp();
        await _allReduce!.RunAsync(step, Buckets.Gradients, _gradients, offset, count).ConfigureAwait(false);
        _spans.Add((begin, Stopwatch.GetTimestamp()));
    }

    private void Exchange(long step, int bucket, ExchangeBuffer buffer)
    {
        if (_allReduce is null)
        {
            buffer.Finish();
            return;
        }

        WaitFor(_allReduce.RunAsync(step, bucket, buffer));
    }

    private void WaitFor(Task exchange)
    {
        var start = Stopwatch.GetTimestamp();
        while (!exchange.IsCompleted)
        {
            Task.WaitAny([exchange], TimeSpan.FromMilliseconds(100));
            if (!exchange.IsCompleted && _control.GiveUp(Stopwatch.GetElapsedTime(start)))
            {
                _place.Ring!.Abort();
            }
        }

        exchange.GetAwaiter().GetResult();
    }
}
