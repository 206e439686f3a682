using LlmPipeline.Fakes;
using Microsoft.Extensions.Time.Testing;

namespace LlmPipeline.Storage.Tests;

public sealed class RecordStoreTests : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    private readonly TemporaryFolder _folder = new();
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));
    private readonly FolderBlobStore _blobs;
    private readonly RecordStore<Job> _jobs;

    public RecordStoreTests()
    {
        _blobs = new FolderBlobStore(_folder.Path);
        _jobs = Open();
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task ARecordIsCreatedOnceAndFoundAfterARestart()
    {
        var (created, record) = await _jobs.TryCreateAsync("job1", new Job { State = "QUEUED" });
        Assert.True(created);
        var (again, same) = await _jobs.TryCreateAsync("job1", new Job { State = "OTHER" });
        Assert.False(again);
        Assert.Same(record, same);

        _time.Advance(TimeSpan.FromSeconds(1));
        var restarted = Open();
        Assert.Empty(await restarted.LoadAsync());
        Assert.Equal("QUEUED", restarted.TryGet("job1")!.Value.State);
        Assert.True(restarted.TryGet("job1")!.Sequence > record.Sequence);
        Assert.Null(restarted.TryGet("job2"));
    }

    [Fact]
    public async Task OfManyCreatorsOfOneIdOneWins()
    {
        var results = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(() => _jobs.TryCreateAsync("job1", new Job { Step = i }))));

        var winner = Assert.Single(results, r => r.Created);
        Assert.All(results, r => Assert.Equal(winner.Record.Value.Step, r.Record.Value.Step));
        Assert.Equal(winner.Record.Value.Step, (await _jobs.UpdateAsync("job1", j => j.Note("x"))).Value.Step);
    }

    [Fact]
    public async Task ChangingWhatWasStoredOrReturnedChangesNoRecord()
    {
        var job = new Job { State = "QUEUED" };
        await _jobs.TryCreateAsync("job1", job);
        job.State = "CHANGED";
        await _jobs.UpdateAsync("job1", j =>
        {
            j.State = "DISCARDED";
            return false;
        });
        await Assert.ThrowsAsync<InvalidDataException>(() => _jobs.UpdateAsync("job1", _ => throw new InvalidDataException()));

        Assert.Equal("QUEUED", _jobs.TryGet("job1")!.Value.State);
        await _jobs.UpdateAsync("job1", j => j.To("RUNNING"));
        Assert.Equal("RUNNING", _jobs.TryGet("job1")!.Value.State);
    }

    [Fact]
    public async Task ProgressThatIsNotDurableIsSeenButDoesNotOutliveTheProcess()
    {
        await _jobs.TryCreateAsync("job1", new Job { State = "RUNNING" });
        await _jobs.UpdateAsync("job1", j => j.At(5), durable: false);
        Assert.Equal(5, _jobs.TryGet("job1")!.Value.Step);

        var restarted = Open();
        await restarted.LoadAsync();
        Assert.Equal(0, restarted.TryGet("job1")!.Value.Step);

        await _jobs.UpdateAsync("job1", j => j.Note("written"));
        restarted = Open();
        await restarted.LoadAsync();
        Assert.Equal(5, restarted.TryGet("job1")!.Value.Step);
    }

    [Fact]
    public async Task SequencesGrowEvenWhileTheClockStandsStill()
    {
        var (_, record) = await _jobs.TryCreateAsync("job1", new Job());
        var previous = record.Sequence;
        for (var i = 1; i < 100; i++)
        {
            var next = (await _jobs.UpdateAsync("job1", j => j.At(i), durable: false)).Sequence;
            Assert.Equal(previous + 1, next);
            previous = next;
        }
    }

    [Fact]
    public async Task AnotherWriterOfTheSameRecordIsNoticed()
    {
        await _jobs.TryCreateAsync("job1", new Job { State = "QUEUED" });
        var other = Open();
        await other.LoadAsync();
        await other.UpdateAsync("job1", j => j.To("RUNNING"));

        await Assert.ThrowsAsync<BlobConditionException>(() => _jobs.UpdateAsync("job1", j => j.To("FAILED")));
        Assert.Equal("QUEUED", _jobs.TryGet("job1")!.Value.State);
        Assert.False((await _jobs.TryCreateAsync("job1", new Job())).Created);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AWriteWithALostAnswerDoesNotLoseTheRecord(bool tookEffect)
    {
        var failing = new FailingStore(_blobs);
        var jobs = Open(failing);
        await jobs.TryCreateAsync("job1", new Job { State = "QUEUED" });
        failing.Fail = tookEffect ? "after" : "before";
        await Assert.ThrowsAsync<TimeoutException>(() => jobs.UpdateAsync("job1", j => j.To("RUNNING")));
        Assert.Equal("QUEUED", jobs.TryGet("job1")!.Value.State);

        failing.Fail = null;
        await jobs.UpdateAsync("job1", j => j.To("CANCELLED"));
        var restarted = Open();
        await restarted.LoadAsync();
        Assert.Equal("CANCELLED", restarted.TryGet("job1")!.Value.State);
    }

    [Fact]
    public async Task AWatchSendsThePresentThenEveryStateAndEndsAfterATerminalOne()
    {
        await _jobs.TryCreateAsync("job1", new Job { State = "QUEUED" });
        await using var watch = _jobs.WatchAsync("job1").GetAsyncEnumerator();
        Assert.Equal("QUEUED", (await NextAsync(watch)).Value.State);

        // The watcher is slow: it looks again after all of this.
        foreach (var state in new[] { "RUNNING", "EVALUATING", "SUCCEEDED" })
        {
            await _jobs.UpdateAsync("job1", j => j.At(1), durable: false);
            await _jobs.UpdateAsync("job1", j => j.To(state));
            await _jobs.UpdateAsync("job1", j => j.At(2), durable: false);
        }

        var seen = new List<RecordVersion<Job>>();
        while (await watch.MoveNextAsync().AsTask().WaitAsync(Limit))
        {
            seen.Add(watch.Current);
        }

        Assert.Equal(["RUNNING", "EVALUATING", "SUCCEEDED"], seen.Select(v => v.Value.State).Distinct());
        Assert.Equal(2, seen[^1].Value.Step);
        Assert.Equal(seen.OrderBy(v => v.Sequence).Select(v => v.Sequence).Distinct(), seen.Select(v => v.Sequence));
    }

    [Fact]
    public async Task AWatchWakesUpForAChange()
    {
        await _jobs.TryCreateAsync("job1", new Job { State = "RUNNING" });
        await using var watch = _jobs.WatchAsync("job1").GetAsyncEnumerator();
        await NextAsync(watch);
        for (var i = 1; i <= 20; i++)
        {
            var next = NextAsync(watch);
            await _jobs.UpdateAsync("job1", j => j.At(i), durable: false);
            Assert.Equal(i, (await next).Value.Step);
        }
    }

    [Fact]
    public async Task AWatchThatContinuesGetsTheStatesItMissedAndNothingTwice()
    {
        var (_, queued) = await _jobs.TryCreateAsync("job1", new Job { State = "QUEUED" });
        var running = await _jobs.UpdateAsync("job1", j => j.To("RUNNING"));
        await _jobs.UpdateAsync("job1", j => j.At(1), durable: false);
        await _jobs.UpdateAsync("job1", j => j.To("EVALUATING"));
        await _jobs.UpdateAsync("job1", j => j.At(2), durable: false);
        await _jobs.UpdateAsync("job1", j => j.To("SUCCEEDED"));

        Assert.Equal(["RUNNING", "EVALUATING", "SUCCEEDED"], await StatesAsync(_jobs, queued.Sequence));
        Assert.Equal(["EVALUATING", "SUCCEEDED"], await StatesAsync(_jobs, running.Sequence));
        Assert.Equal(["SUCCEEDED"], await StatesAsync(_jobs, 0));
        Assert.Equal(["SUCCEEDED"], await StatesAsync(_jobs, _jobs.TryGet("job1")!.Sequence));
    }

    [Fact]
    public async Task AWatchContinuesOverARestartAndAClockThatWentBack()
    {
        await _jobs.TryCreateAsync("job1", new Job { State = "RUNNING" });
        var last = await _jobs.UpdateAsync("job1", j => j.To("SUCCEEDED"));

        _time.Advance(TimeSpan.FromSeconds(1));
        var restarted = Open();
        await restarted.LoadAsync();
        Assert.Equal(["SUCCEEDED"], await StatesAsync(restarted, last.Sequence));
        Assert.Equal(["SUCCEEDED"], await StatesAsync(restarted, last.Sequence + 1_000_000));
    }

    [Fact]
    public async Task AQuietWatchRepeatsTheNewestVersion()
    {
        await _jobs.TryCreateAsync("job1", new Job { State = "RUNNING" });
        await using var watch = _jobs.WatchAsync("job1").GetAsyncEnumerator();
        var first = await NextAsync(watch);
        for (var i = 0; i < 3; i++)
        {
            var next = NextAsync(watch);
            Assert.False(next.IsCompleted);
            _time.Advance(TimeSpan.FromSeconds(15));
            Assert.Equal(first, await next);
        }
    }

    [Fact]
    public async Task AWatchOfAResumedRecordGoesOn()
    {
        await _jobs.TryCreateAsync("job1", new Job { State = "RUNNING" });
        var failed = await _jobs.UpdateAsync("job1", j => j.To("FAILED"));
        await _jobs.UpdateAsync("job1", j => j.To("QUEUED"));
        await using var watch = _jobs.WatchAsync("job1", failed.Sequence - 1).GetAsyncEnumerator();

        Assert.Equal("FAILED", (await NextAsync(watch)).Value.State);
        Assert.Equal("QUEUED", (await NextAsync(watch)).Value.State);
        await _jobs.UpdateAsync("job1", j => j.To("SUCCEEDED"));
        Assert.Equal("SUCCEEDED", (await NextAsync(watch)).Value.State);
        Assert.False(await watch.MoveNextAsync().AsTask().WaitAsync(Limit));
    }

    [Fact]
    public async Task AWatchEndsWithItsCancellationAndAnUnknownRecordIsNotFound()
    {
        await _jobs.TryCreateAsync("job1", new Job { State = "RUNNING" });
        using var cancellation = new CancellationTokenSource();
        await using var watch = _jobs.WatchAsync("job1", cancellationToken: cancellation.Token).GetAsyncEnumerator();
        await NextAsync(watch);
        var next = NextAsync(watch);
        await cancellation.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => next);
        await Assert.ThrowsAsync<BlobNotFoundException>(() => _jobs.WatchAsync("job2").GetAsyncEnumerator().MoveNextAsync().AsTask());
        await Assert.ThrowsAsync<BlobNotFoundException>(() => _jobs.UpdateAsync("job2", _ => true));
        await Assert.ThrowsAsync<InvalidResourceNameException>(() => _jobs.TryCreateAsync("../job", new Job()));
    }

    [Fact]
    public async Task PagesHoldEveryRecordOnceNewestFirst()
    {
        for (var i = 0; i < 7; i++)
        {
            await _jobs.TryCreateAsync($"job{i}", new Job { Step = i, Created = _time.GetUtcNow().AddSeconds(i) });
        }

        var seen = new List<int>();
        var token = "";
        do
        {
            (var page, token) = _jobs.List(3, token);
            Assert.InRange(page.Count, 1, 3);
            seen.AddRange(page.Select(j => j.Step));
        }
        while (token.Length > 0);

        Assert.Equal([6, 5, 4, 3, 2, 1, 0], seen);
        Assert.Equal(7, _jobs.List(0, "").Records.Count);
        Assert.Equal("", _jobs.List(7, "").NextPageToken);
        Assert.Contains("page_size", Assert.Throws<ArgumentException>(() => _jobs.List(-1, "")).Message, StringComparison.Ordinal);
        foreach (var bad in new[] { "x", "-1", "8", "99999999999", " 1" })
        {
            Assert.Contains("page_token", Assert.Throws<ArgumentException>(() => _jobs.List(3, bad)).Message, StringComparison.Ordinal);
        }

        Assert.Equal((50, "50"), (Page.Of([.. Enumerable.Range(0, 2000)], 0, "").Items.Count, Page.Of([.. Enumerable.Range(0, 2000)], 0, "").NextPageToken));
        Assert.Equal(1000, Page.Of([.. Enumerable.Range(0, 2000)], int.MaxValue, "").Items.Count);
    }

    [Fact]
    public async Task ADamagedRecordIsReportedAndTheOthersAreLoaded()
    {
        await _jobs.TryCreateAsync("job1", new Job { State = "QUEUED" });
        await _blobs.WriteTextAsync("jobs/job2/job.json", "{ broken");
        await _blobs.WriteTextAsync("jobs/job1/other.json", "{ broken");
        await _blobs.WriteTextAsync("jobs/JOB3/job.json", "{}");

        var restarted = Open();
        var (id, cause) = Assert.Single(await restarted.LoadAsync());
        Assert.Equal("job2", id);
        Assert.IsType<System.Text.Json.JsonException>(cause, exactMatch: false);
        Assert.Equal("QUEUED", Assert.Single(restarted.All).Value.State);
    }

    private static async Task<RecordVersion<Job>> NextAsync(IAsyncEnumerator<RecordVersion<Job>> watch)
    {
        Assert.True(await watch.MoveNextAsync().AsTask().WaitAsync(Limit));
        return watch.Current;
    }

    private static async Task<List<string>> StatesAsync(RecordStore<Job> jobs, long afterSequence)
    {
        using var timeout = new CancellationTokenSource(Limit);
        return await jobs.WatchAsync("job1", afterSequence, timeout.Token).Select(v => v.Value.State).ToListAsync();
    }

    private RecordStore<Job> Open(IBlobStore? blobs = null) => new(
        blobs ?? _blobs,
        new RecordFormat<Job>
        {
            Collection = "jobs",
            File = "job.json",
            Serialize = j => System.Text.Json.JsonSerializer.Serialize(j),
            Parse = t => System.Text.Json.JsonSerializer.Deserialize<Job>(t)!,
            Copy = j => j with { },
            CreateTime = j => j.Created,
            State = j => j.State,
            IsTerminal = j => j.State is "SUCCEEDED" or "FAILED" or "CANCELLED",
        },
        _time);

    private sealed record Job
    {
        public string State { get; set; } = "";

        public int Step { get; set; }

        public string Text { get; set; } = "";

        public DateTimeOffset Created { get; set; }

        public bool To(string state) => (State = state).Length > 0;

        public bool At(int step) => (Step = step) >= 0;

        public bool Note(string text) => (Text = text).Length > 0;
    }

    /// <summary>A store whose commits fail before or after they take effect.</summary>
    private sealed class FailingStore(IBlobStore inner) : IBlobStore
    {
        public string? Fail { get; set; }

        public Task<Stream> OpenReadAsync(string name, CancellationToken cancellationToken = default) => inner.OpenReadAsync(name, cancellationToken);

        public async Task<BlobWriter> CreateAsync(string name, BlobCondition condition = default, CancellationToken cancellationToken = default) =>
            new Writer(this, await inner.CreateAsync(name, condition, cancellationToken));

        public Task<BlobProperties?> TryGetPropertiesAsync(string name, CancellationToken cancellationToken = default) => inner.TryGetPropertiesAsync(name, cancellationToken);

        public IAsyncEnumerable<BlobProperties> ListAsync(string prefix, CancellationToken cancellationToken = default) => inner.ListAsync(prefix, cancellationToken);

        public Task<bool> DeleteAsync(string name, CancellationToken cancellationToken = default) => inner.DeleteAsync(name, cancellationToken);

        public Task<IBlobLease?> TryAcquireLeaseAsync(string name, TimeSpan duration, CancellationToken cancellationToken = default) => inner.TryAcquireLeaseAsync(name, duration, cancellationToken);

        public string? TryGetLocalPath(string name) => inner.TryGetLocalPath(name);

        private sealed class Writer(FailingStore store, BlobWriter inner) : BlobWriter
        {
            public override Stream Stream => inner.Stream;

            public override async Task<string> CommitAsync(CancellationToken cancellationToken = default)
            {
                if (store.Fail != "before")
                {
                    var eTag = await inner.CommitAsync(cancellationToken);
                    if (store.Fail is null)
                    {
                        return eTag;
                    }
                }

                throw new TimeoutException();
            }

            public override ValueTask DisposeAsync() => inner.DisposeAsync();
        }
    }
}
