using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Coordinator;

namespace LlmPipeline.Trainer.Tests.Coordinator;

public sealed class StepMetricsLogTests : IDisposable
{
    private const string Run = "runs/some-run";

    private readonly TemporaryFolder _folder = new();
    private readonly IBlobStore _store;

    public StepMetricsLogTests() => _store = BlobStore.Open($"folder={_folder.Path}");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task EachStepComesOnceInOrderAfterAReload()
    {
        var log = await OpenAsync();
        log.Append(Steps(1, 30));
        await log.CommitAsync(default);
        log.Append(Steps(20, 50));
        await log.CommitAsync(default);

        Assert.Equal(0, log.UncommittedCount);
        Assert.Equal(Enumerable.Range(1, 50).Select(i => (long)i), (await OpenAsync()).After(0, 1000).Select(s => s.Step));
        Assert.Equal([41L, 42, 43], (await OpenAsync()).After(40, 3).Select(s => s.Step));
        Assert.Empty(log.After(50, 10));
    }

    [Fact]
    public async Task AValidationThatComesLaterIsKeptAndNotLostAgain()
    {
        var log = await OpenAsync();
        Assert.Equal(3, log.Append(Steps(1, 3)).Count);
        await log.CommitAsync(default);
        var validated = Step(2);
        validated.ValidationLoss = 1.5;
        validated.Samples.Add(new TextSample { Text = "written" });
        Assert.Equal([2L], log.Append([validated]).Select(s => s.Step));
        Assert.Empty(log.Append(Steps(1, 3)));
        await log.CommitAsync(default);
        var kept = (await OpenAsync()).After(1, 1)[0];
        Assert.Equal((1.5, "written"), (kept.ValidationLoss, Assert.Single(kept.Samples).Text));
    }

    [Fact]
    public async Task WhereNothingMayBeDeletedStepsGoAllTheSame()
    {
        var store = new FaultyStore(_store) { Deleting = _ => throw new UnauthorizedAccessException("No right to delete") };
        var log = await StepMetricsLog.OpenAsync(store, Run, default);
        for (var first = 1; first < 4000; first += 100)
        {
            log.Append(Steps(first, first + 99));
            await log.CommitAsync(default);
        }

        await log.TruncateAsync(0, default);
        Assert.Null((await OpenAsync()).Last);
        log.Append(Steps(1, 10));
        await log.CommitAsync(default);
        var again = await OpenAsync();
        Assert.Equal(10, again.Last!.Step);
        again.Append(Steps(11, 20));
        await again.CommitAsync(default);
        Assert.Equal(20, (await OpenAsync()).Last!.Step);
    }

    [Fact]
    public async Task WhatStorageDidNotDropIsDroppedWithTheNextCommit()
    {
        var store = new FaultyStore(_store);
        var log = await StepMetricsLog.OpenAsync(store, Run, default);
        for (var first = 1; first < 4000; first += 100)
        {
            log.Append(Steps(first, first + 99));
            await log.CommitAsync(default);
        }

        store.Deleting = _ => throw new IOException("Storage is away");
        store.Committing = store.Deleting;
        await Assert.ThrowsAsync<IOException>(() => log.TruncateAsync(1000, default));
        Assert.Equal(1000, log.Last!.Step);
        (store.Deleting, store.Committing) = (_ => Task.CompletedTask, _ => Task.CompletedTask);
        log.Append(Steps(1001, 1010));
        await log.CommitAsync(default);
        Assert.Single(Directory.GetFiles(Path.Combine(_folder.Path, Run, "metrics")));
        Assert.Equal(Enumerable.Range(1, 1010).Select(i => (long)i), (await OpenAsync()).After(0, 5000).Select(s => s.Step));
    }

    [Fact]
    public async Task SegmentsAreNamedByTheirFirstStepAndGrowToALimit()
    {
        var log = await OpenAsync();
        for (var first = 1; first < 5000; first += 100)
        {
            log.Append(Steps(first, first + 99));
            await log.CommitAsync(default);
        }

        var names = new List<string>();
        await foreach (var blob in _store.ListAsync($"{Run}/metrics/"))
        {
            names.Add(blob.Name);
        }

        Assert.Equal([$"{Run}/metrics/00000001.jsonl", $"{Run}/metrics/00002001.jsonl", $"{Run}/metrics/00004001.jsonl"], names);
        Assert.Equal(5000, (await OpenAsync()).After(0, 10_000).Count);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(1999)]
    [InlineData(2000)]
    [InlineData(2001)]
    [InlineData(3500)]
    [InlineData(9000)]
    public async Task TruncationDropsWhatLiesAfterAStepForGood(int step)
    {
        var log = await OpenAsync();
        log.Append(Steps(1, 5000));
        await log.CommitAsync(default);
        await log.TruncateAsync(step, default);
        var left = Math.Min(step, 5000);
        Assert.Equal(left, log.After(0, 10_000).Count);
        Assert.Equal(left, (await OpenAsync()).After(0, 10_000).Count);

        log.Append(Steps(left + 1, left + 10));
        await log.CommitAsync(default);
        Assert.Equal(Enumerable.Range(1, left + 10).Select(i => (long)i), (await OpenAsync()).After(0, 10_000).Select(s => s.Step));
    }

    [Fact]
    public async Task ADamagedLineCostsItsStepAlone()
    {
        var log = await OpenAsync();
        log.Append(Steps(1, 3));
        await log.CommitAsync(default);
        var name = $"{Run}/metrics/00000001.jsonl";
        var lines = (await _store.TryReadTextAsync(name))!.Value.Text.Split('\n');
        lines[1] = lines[1][..10];
        await _store.WriteTextAsync(name, string.Join('\n', lines));
        Assert.Equal([1L, 3], (await OpenAsync()).After(0, 10).Select(s => s.Step));
    }

    [Fact]
    public async Task SpeedIsThatOfTheLastSeconds()
    {
        var log = await OpenAsync();
        // 10 steps a second at first, 2 a second at the end.
        log.Append(Enumerable.Range(1, 100).Select(i => Step(i, i * 0.1)));
        log.Append(Enumerable.Range(1, 40).Select(i => Step(100 + i, 10 + (i * 0.5))));
        var progress = new RunProgress();
        TrainingProgress.Update(progress, log, new TrainingSpec { Steps = 200 }, 30);
        Assert.Equal(2 * 64, progress.TokensPerSecond, 1e-6);
        Assert.Equal(30, progress.RemainingSeconds, 1e-6);
        Assert.Equal(0.7, progress.Fraction, 1e-9);

        TrainingProgress.Update(progress, log, new TrainingSpec { Steps = 200, MaxSeconds = 40 }, 30);
        Assert.Equal(10, progress.RemainingSeconds, 1e-6);
        Assert.Equal(0.75, progress.Fraction, 1e-9);
    }

    private Task<StepMetricsLog> OpenAsync() => StepMetricsLog.OpenAsync(_store, Run, default);

    private static IEnumerable<StepMetrics> Steps(int first, int last) => Enumerable.Range(first, last - first + 1).Select(i => Step(i));

    private static StepMetrics Step(int step, double seconds = 0) => new()
    {
        Step = step,
        TrainLoss = 1.0 / step,
        TokenCount = step * 64,
        StepSeconds = 0.1,
        Time = Timestamp.FromDateTimeOffset(DateTimeOffset.UnixEpoch.AddSeconds(seconds)),
    };
}
