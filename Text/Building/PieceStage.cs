using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Serialization.Metadata;
using LlmPipeline.Storage;

namespace LlmPipeline.Text.Building;

/// <summary>A piece of a stage that this process works on.</summary>
/// <param name="Index">Its number; pieces are the units of the plan.</param>
/// <param name="Degree">Threads that it may use.</param>
internal sealed record Piece(int Index, int Degree);

/// <summary>
/// A stage whose pieces any number of processes work on: a piece is taken by a lease, and done once its result is written. Doing a piece
/// again gives the same bytes, so that a process which lost its lease without knowing does no harm.
/// </summary>
/// <typeparam name="T">What is kept of a piece besides its files.</typeparam>
internal sealed class PieceStage<T>(JobFolder folder, string stage, int count, JsonTypeInfo<T> json) where T : class
{
    private static readonly TimeSpan MinPause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan MaxPause = TimeSpan.FromSeconds(1);

    private readonly SortedSet<int> _open = [.. Enumerable.Range(0, count)];

    /// <summary>Takes the result of a piece, once: its number, the result, and whether it was made here.</summary>
    public required Func<int, T, bool, Task> Done { get; init; }

    /// <summary>Works on open pieces until all are done, or, for a process that only helps, until none is free.</summary>
    /// <param name="degree">Pieces in work at the same time, or threads for fewer pieces.</param>
    /// <param name="work">Makes a piece.</param>
    /// <param name="helpOnly">Returns instead of waiting for others.</param>
    /// <param name="cancellationToken">Stops the work.</param>
    public async Task RunAsync(int degree, Func<Piece, CancellationToken, Task<T>> work, bool helpOnly, CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var running = new Dictionary<Task<Outcome>, int>();
        var pause = MinPause;
        var innerDegree = Math.Max(1, degree / Math.Max(1, Math.Min(degree, count)));
        try
        {
            await CollectAsync(cancellationToken);
            while (_open.Count > 0)
            {
                foreach (var index in _open.Except(running.Values).ToList())
                {
                    if (running.Count >= degree)
                    {
                        break;
                    }

                    if (await folder.TryLeaseAsync($"{stage}/{Number(index)}", cancellationToken) is { } lease)
                    {
                        running.Add(Task.Run(() => DoAsync(new Piece(index, innerDegree), lease, work, stop.Token), CancellationToken.None), index);
                    }
                }

                if (running.Count > 0)
                {
                    await FinishOneAsync(running);
                    pause = MinPause;
                }
                else if (helpOnly)
                {
                    return;
                }
                else
                {
                    // Others have the rest; what they leave is taken over when their leases end.
                    await Task.Delay(pause, cancellationToken);
                    pause = pause * 2 < MaxPause ? pause * 2 : MaxPause;
                    await CollectAsync(cancellationToken);
                }
            }
        }
        finally
        {
            await stop.CancelAsync();
            foreach (var task in running.Keys)
            {
                await ((Task)task).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    private static string Number(int index) => index.ToString("D6", CultureInfo.InvariantCulture);

    private async Task FinishOneAsync(Dictionary<Task<Outcome>, int> running)
    {
        var finished = await Task.WhenAny(running.Keys);
        running.Remove(finished, out var index);
        if (await finished is { Result: { } result } outcome)
        {
            _open.Remove(index);
            await Done(index, result, outcome.Mine);
        }
    }

    private async Task<Outcome> DoAsync(Piece piece, HeldLease lease, Func<Piece, CancellationToken, Task<T>> work, CancellationToken cancellationToken)
    {
        await using var held = lease;
        if (await TryReadAsync(piece.Index, cancellationToken) is { } present)
        {
            return new Outcome(present, false);
        }

        using var activity = BuildTrace.StartPiece(folder.Job, stage, piece.Index);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, lease.Lost);
        try
        {
            var result = await work(piece, either.Token);
            if (!await lease.ConfirmAsync(either.Token))
            {
                return default;
            }

            await folder.WriteAsync(ResultOf(Number(piece.Index)), result, json, either.Token);
            return new Outcome(result, true);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            activity?.SetStatus(ActivityStatusCode.Error, "the lease was lost");
            return default;
        }
        catch (BlobNotFoundException exception)
        {
            // What a piece reads is removed once the piece is done: another process was faster.
            activity?.SetStatus(ActivityStatusCode.Error, exception.Message);
            if (await TryReadAsync(piece.Index, cancellationToken) is { } other)
            {
                return new Outcome(other, false);
            }

            throw;
        }
        catch (Exception exception)
        {
            activity?.SetStatus(ActivityStatusCode.Error, exception.Message);
            throw;
        }
    }

    private async Task CollectAsync(CancellationToken cancellationToken)
    {
        var prefix = $"{stage}.done/";
        await foreach (var file in folder.ListAsync(prefix, cancellationToken))
        {
            if (int.TryParse(file.AsSpan(prefix.Length, 6), NumberStyles.None, CultureInfo.InvariantCulture, out var index) && _open.Contains(index)
                && await TryReadAsync(index, cancellationToken) is { } result)
            {
                _open.Remove(index);
                await Done(index, result, false);
            }
        }
    }

    private Task<T?> TryReadAsync(int index, CancellationToken cancellationToken) => folder.TryReadAsync(ResultOf(Number(index)), json, cancellationToken);

    private string ResultOf(string number) => $"{stage}.done/{number}.json";

    private readonly record struct Outcome(T? Result, bool Mine);
}
