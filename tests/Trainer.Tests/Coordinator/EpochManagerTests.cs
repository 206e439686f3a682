using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Coordinator;
using LlmPipeline.Workers.V1;
using Microsoft.Extensions.Time.Testing;

namespace LlmPipeline.Trainer.Tests.Coordinator;

/// <summary>The rules of membership, on a clock that the tests move.</summary>
public sealed class EpochManagerTests
{
    private readonly FakeTimeProvider _time = new();
    private readonly EpochManager _manager;
    private readonly Dictionary<string, Worker> _workers = [];
    private long _epoch;

    public EpochManagerTests()
    {
        _manager = new EpochManager(_time, new EpochTimings());
        _manager.Open(1);
    }

    [Fact]
    public void WorkersThatStartTogetherMakeOneEpoch()
    {
        Begin();
        Beat("worker-a");
        Advance(0.3);
        Beat("worker-b");
        Advance(0.3);
        Beat("worker-c");
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Advance(0.6);
        var start = Form(new EpochOrigin("", 0));
        Assert.Equal(["worker-a", "worker-b", "worker-c"], start.Workers.Select(w => w.WorkerId));
        Assert.Equal([0, 1, 2], "abc".Select(c => Plan($"worker-{c}").Rank));
        Assert.All("abc", c => Assert.Equal((-1, 0L, ""), (Plan($"worker-{c}").SourceRank, Plan($"worker-{c}").StartStep, Plan($"worker-{c}").Checkpoint)));
    }

    [Fact]
    public void AWorkerThatWasKilledBeforeTheRunIsNotInItsFirstEpoch()
    {
        Beat("worker-a");
        Beat("worker-b");
        Beat("worker-c");
        Kill("worker-b");
        Kill("worker-c");
        Advance(1);
        Begin();
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Assert.Null(_manager.Begin(1, new EpochOrigin("", 0)));
        Beat("worker-c");
        Advance(2.4);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Advance(0.2);
        Assert.Equal(["worker-a", "worker-c"], Form(new EpochOrigin("", 0)).Workers.Select(w => w.WorkerId));
        Assert.Equal(2, _manager.WorkerCount);
    }

    [Fact]
    public void ARunWaitsForItsMinimumOfWorkers()
    {
        Begin(minWorkers: 2);
        Beat("worker-a");
        Advance(2);
        Beat("worker-a");
        var decision = Decide();
        Assert.Equal((EpochAction.Wait, true), (decision.Action, decision.IsAwaitingWorkers));
        Assert.Contains("1 of 2", decision.Reason);
        Beat("worker-b");
        Advance(0.6);
        Assert.Equal(2, Form(new EpochOrigin("", 0)).Workers.Count);
    }

    [Fact]
    public void WithoutStateTheNewestCheckpointIsLoaded()
    {
        Begin();
        Beat("worker-a");
        Advance(0.6);
        Assert.True(Decide().NeedsOrigin);
        Assert.Null(_manager.Begin(1, null));
        Form(new EpochOrigin("runs/some-run/checkpoints/00000040", 40));
        Assert.Equal((-1, 40L, "runs/some-run/checkpoints/00000040"), (Plan("worker-a").SourceRank, Plan("worker-a").StartStep, Plan("worker-a").Checkpoint));
    }

    [Fact]
    public void TheMemberWithTheMostStepsIsTheSource()
    {
        Begin();
        Beat("worker-a", step: 3);
        Beat("worker-b", step: 7);
        Beat("worker-c", step: 5, attempt: 2);
        Advance(0.6);
        Assert.False(Decide().NeedsOrigin);
        Form(null);
        var plan = Plan("worker-a");
        Assert.Equal("worker-b", plan.Members[plan.SourceRank].WorkerId);
        Assert.Equal(7, plan.StartStep);
        Assert.Equal("", plan.Checkpoint);
    }

    [Fact]
    public void WorkersBeyondTheMicroBatchesStandBy()
    {
        Begin(microBatches: 2);
        Beat("worker-a");
        Beat("worker-b");
        Beat("worker-c");
        Advance(0.6);
        Assert.Equal(2, Form(new EpochOrigin("", 0)).Workers.Count);
        Assert.Null(_workers["worker-c"].Assignment!.Epoch);
        Steps("worker-a", "worker-b");
        Beat("worker-d");
        Advance(1);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Assert.Equal([-1, -1], "cd".Select(c => Plan($"worker-{c}").Rank));
        Prepared("worker-c");
        Assert.Equal(EpochAction.Wait, Decide().Action);

        Leave("worker-b");
        var start = Form(null);
        Assert.Equal(["worker-a", "worker-c"], start.Workers.Select(w => w.WorkerId));
    }

    [Fact]
    public void ANewcomerBeginsAnEpochAndTheOthersKeepTheirRanks()
    {
        Started("worker-b", "worker-c");
        Beat("worker-a");
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Advance(0.6);
        Prepared("worker-a");
        var start = Form(null);
        Assert.Equal(["worker-b", "worker-c", "worker-a"], start.Workers.Select(w => w.WorkerId));
        Assert.Contains("worker-a joined", start.Reason);
        Assert.Contains(_manager.TakeNotices(), n => n.Kind == RunEvents.WorkerJoined && n.Message.Contains("worker-a", StringComparison.Ordinal));
    }

    [Fact]
    public void NobodyWaitsForANewcomerThatPrepares()
    {
        Started("worker-a", "worker-b", "worker-c");
        Beat("worker-d");
        Advance(60);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        var plan = Plan("worker-d");
        Assert.Equal((_epoch, -1, 0, "datasets/some", 0), (plan.Epoch, plan.Rank, plan.Members.Count, plan.Dataset, plan.SourceRank));
        Assert.False(_manager.Accepts("runs/some-run", _epoch, "worker-d"));

        // Not in an epoch that begins meanwhile, for another reason, either.
        Leave("worker-b");
        Assert.Equal(["worker-a", "worker-c"], Form(null).Workers.Select(w => w.WorkerId));
        Steps("worker-a", "worker-c");
        Decide();
        Assert.Equal((_epoch, -1), (Plan("worker-d").Epoch, Plan("worker-d").Rank));
        Prepared("worker-d");
        Assert.Equal(["worker-a", "worker-c", "worker-d"], Form(null).Workers.Select(w => w.WorkerId));
    }

    [Fact]
    public void ANewcomerThatCannotPrepareIsNamedOnceAndHarmsNobody()
    {
        Started("worker-a");
        Beat("worker-b");
        Decide();
        var version = _workers["worker-b"].Assignment!.Version;
        for (var attempt = 0; attempt < 3; attempt++)
        {
            var failure = Failure("");
            (failure.Message, failure.Fatal) = ("The disk is full.", new RunError { Reason = "CORRUPT_DATA" });
            Beat("worker-b", failure: failure);
            Advance(1);
            Assert.Equal(EpochAction.Wait, Decide().Action);
        }

        Assert.Equal(version, _workers["worker-b"].Assignment!.Version);
        var notice = Assert.Single(_manager.TakeNotices());
        Assert.Equal((RunEvents.WorkerStandsBy, "worker-b stands by, as it cannot prepare to take part, and tries again: The disk is full."), (notice.Kind, notice.Message));
        Prepared("worker-b");
        Assert.Equal(["worker-a", "worker-b"], Form(null).Workers.Select(w => w.WorkerId));
    }

    // As a member it would fail the run, for which it is better to wait.
    [Fact]
    public void ANewcomerThatCannotPrepareIsNotTakenForLackOfOthers()
    {
        _manager.SetJob(Job(minWorkers: 2));
        Beat("worker-a");
        Beat("worker-b");
        Advance(0.6);
        Form(new EpochOrigin("", 0));
        Steps("worker-a", "worker-b");
        Beat("worker-c");
        Decide();
        Beat("worker-c", failure: Failure(""));
        Decide();
        Beat("worker-c");
        Leave("worker-b");
        Assert.Contains("1 of 2 workers are there", Decide().Reason);
        Leave("worker-a");
        Kill("worker-a");
        Kill("worker-b");
        Advance(5);
        Assert.Equal((EpochAction.Wait, true), (Decide().Action, Decide().IsAwaitingWorkers));
        Beat("worker-d");
        Prepared("worker-c");
        Advance(0.6);
        Assert.Equal(["worker-c", "worker-d"], Form(new EpochOrigin("", 0)).Workers.Select(w => w.WorkerId));
    }

    [Fact]
    public void NewcomersThatAreReadyOneAfterTheOtherMakeOneEpoch()
    {
        Started("worker-a");
        Beat("worker-b");
        Beat("worker-c");
        Advance(3);
        Decide();
        Prepared("worker-b");
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Advance(0.4);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Prepared("worker-c");
        Assert.Equal(3, Form(null).Workers.Count);
        Steps("worker-a", "worker-b", "worker-c");

        // One that takes long holds up those that are ready for half a second only.
        Beat("worker-d");
        Beat("worker-e");
        Advance(3);
        Decide();
        Prepared("worker-d");
        Advance(0.6);
        Assert.Equal(4, Form(null).Workers.Count);
    }

    [Fact]
    public void ForNgramsNobodyPrepares()
    {
        _manager.SetJob(Job() with { Spec = RunSpecResolverTests.Resolve(s => s.Model = new ModelSpec { Architecture = "ngram" }) });
        Beat("worker-a");
        Beat("worker-b");
        Advance(0.6);
        Assert.Equal(["worker-a"], Form(new EpochOrigin("", 0)).Workers.Select(w => w.WorkerId));
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Assert.Null(_workers["worker-b"].Assignment!.Epoch);
        Leave("worker-a");
        Assert.Equal(["worker-b"], Form(new EpochOrigin("", 0)).Workers.Select(w => w.WorkerId));
    }

    [Fact]
    public void AKilledWorkerIsReplacedAsSoonAsItsNeighboursSaySo()
    {
        Started("worker-a", "worker-b", "worker-c");
        Kill("worker-b");
        Advance(0.1);
        Beat("worker-c", step: 5, failure: Failure("worker-b"));
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Beat("worker-a", step: 6, failure: Failure(""));
        Advance(0.3);
        var start = Form(null);
        Assert.Equal(["worker-a", "worker-c"], start.Workers.Select(w => w.WorkerId));
        Assert.Equal((0, 6L), (Plan("worker-c").SourceRank, Plan("worker-c").StartStep));
        var notice = Assert.Single(_manager.TakeNotices());
        Assert.Equal(RunEvents.WorkerLost, notice.Kind);
        Assert.Contains("worker-b is lost: its connection failed, as worker-c saw it", notice.Message);
    }

    [Fact]
    public void ASuspectThatSendsAHeartbeatStaysIn()
    {
        Started("worker-a", "worker-b");
        Beat("worker-a", step: 5, failure: Failure("worker-b"));
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Advance(0.5);
        Beat("worker-b", step: 5);
        Assert.Equal(["worker-a", "worker-b"], Form(null).Workers.Select(w => w.WorkerId));
        Assert.Empty(_manager.TakeNotices());
    }

    [Fact]
    public void AFrozenSuspectIsLostAfterTheWindowAndJoinsAgainWhenItThaws()
    {
        Started("worker-a", "worker-b");
        Advance(0.01);
        Beat("worker-a", step: 5, failure: Failure("worker-b"));
        Advance(1.9);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Advance(0.2);
        Assert.Equal(["worker-a"], Form(null).Workers.Select(w => w.WorkerId));
        Steps("worker-a");
        Beat("worker-b", step: 5);
        Advance(0.6);
        Assert.Equal(["worker-a", "worker-b"], Form(null).Workers.Select(w => w.WorkerId));
    }

    [Fact]
    public void OtherMembersHaveTwoSecondsToSayWhatTheySaw()
    {
        Started("worker-a", "worker-b", "worker-c");
        Beat("worker-a", step: 5, failure: Failure(""));
        Advance(1.9);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Advance(0.2);
        Assert.Equal(3, Form(null).Workers.Count);
    }

    [Fact]
    public void SilenceLosesAWorkerAndAnOpenCallKeepsIt()
    {
        Started("worker-a", "worker-b");
        Kill("worker-b");
        Advance(3.4);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Advance(0.2);
        var start = Form(null);
        Assert.Equal(["worker-a"], start.Workers.Select(w => w.WorkerId));
        Assert.Contains("worker-b is lost", start.Reason);
        Advance(60);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Assert.Equal(1, _manager.WorkerCount);
    }

    [Fact]
    public void ARestartedWorkerTakesThePlaceOfTheProcessBeforeIt()
    {
        Started("worker-a", "worker-b");
        Kill("worker-b");
        Beat("worker-x", address: _workers["worker-b"].Address);
        Advance(0.6);
        Assert.Equal(["worker-a"], Form(null).Workers.Select(w => w.WorkerId));
        Steps("worker-a");
        Prepared("worker-x");
        var start = Form(null);
        Assert.Equal(["worker-a", "worker-x"], start.Workers.Select(w => w.WorkerId));
        Assert.Contains(_manager.TakeNotices(), n => n.Message.Contains("worker-x was started in its place", StringComparison.Ordinal));
    }

    [Fact]
    public void TwoWorkersThatClaimOneAddressDoNotPushEachOtherOut()
    {
        Started("worker-a", "worker-b");
        Beat("worker-x", step: -1, address: _workers["worker-b"].Address);
        Advance(0.6);
        Assert.Equal(["worker-a", "worker-b", "worker-x"], Form(null).Workers.Select(w => w.WorkerId));
    }

    [Fact]
    public void WhoComputesWithSomethingElseStandsByAndIsToldOf()
    {
        Begin();
        Beat("worker-a", fingerprint: "x64 avx2 libtorch=2.10");
        Beat("worker-b", fingerprint: "x64 avx512 libtorch=2.10");
        Beat("worker-c", fingerprint: "x64 avx512 libtorch=2.10");
        Advance(0.6);
        Assert.Equal(["worker-b", "worker-c"], Form(new EpochOrigin("", 0)).Workers.Select(w => w.WorkerId));
        Assert.Null(_workers["worker-a"].Assignment!.Epoch);
        var notice = Assert.Single(_manager.TakeNotices(), n => n.Kind == RunEvents.WorkerStandsBy);
        Assert.Contains("worker-a stands by: it computes with avx2, the run's workers with avx512", notice.Message);
        Assert.Contains("training.exchange.mode: plain", notice.Message);

        // Later ones are judged by those that are there, however many they are; it is told once.
        Beat("worker-b", step: 5, fingerprint: "x64 avx512 libtorch=2.10");
        Beat("worker-c", step: 5, fingerprint: "x64 avx512 libtorch=2.10");
        Beat("worker-d", fingerprint: "x64 avx2 libtorch=2.10");
        Beat("worker-a", fingerprint: "x64 avx2 libtorch=2.10");
        Advance(1);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Assert.Contains("worker-d", Assert.Single(_manager.TakeNotices(), n => n.Kind == RunEvents.WorkerStandsBy).Message);
        Kill("worker-b");
        Kill("worker-c");
        Beat("worker-a", fingerprint: "x64 avx2 libtorch=2.10");
        Beat("worker-d", fingerprint: "x64 avx2 libtorch=2.10");
        Advance(4);
        Beat("worker-a", fingerprint: "x64 avx2 libtorch=2.10");
        Beat("worker-d", fingerprint: "x64 avx2 libtorch=2.10");
        Advance(1.2);

        // Nobody is left who holds state: a checkpoint can be continued on any kind of machine.
        Assert.True(Decide().NeedsOrigin);
        Assert.Equal(["worker-a", "worker-d"], Form(new EpochOrigin("", 0)).Workers.Select(w => w.WorkerId).Order());
    }

    [Fact]
    public void InPlainModeAMixtureOfFingerprintsIsTold()
    {
        var job = Job();
        job.Spec.Training.Exchange = new ExchangeSpec { Mode = "plain" };
        _manager.SetJob(job);
        Beat("worker-a", fingerprint: "avx2");
        Beat("worker-b", fingerprint: "avx512");
        Advance(0.6);
        Assert.Equal(2, Form(new EpochOrigin("", 0)).Workers.Count);
        Assert.Contains(_manager.TakeNotices(), n => n.Kind == RunEvents.FingerprintsDiffer && n.Message.Contains("worker-b with avx512", StringComparison.Ordinal));
    }

    [Fact]
    public void BelowTheMinimumTheRunWaitsWithItsStateUntilOneComesBack()
    {
        Started("worker-a", "worker-b");
        _manager.SetJob(Job(minWorkers: 2));
        Advance(0.6);
        Beat("worker-a", step: 5);
        Beat("worker-b", step: 5);
        Advance(0.6);
        Form(null);
        Kill("worker-b");
        Beat("worker-a", step: 6, failure: Failure("worker-b"));
        Advance(0.4);
        Decide();
        var decision = Decide();
        Assert.Equal((EpochAction.Wait, true, null), (decision.Action, decision.IsAwaitingWorkers, decision.Recheck));
        Assert.Contains("1 of 2 workers are there", decision.Reason);
        Beat("worker-c");
        var start = Form(null);
        Assert.Equal((6L, false), (start.StartStep, start.FromOrigin));
        Assert.Equal(["worker-a", "worker-c"], start.Workers.Select(w => w.WorkerId));
    }

    [Fact]
    public void ARunBeginsWithMoreWorkersThanItGoesOnWith()
    {
        var job = Job();
        job.Spec.Training.StartWorkers = 2;
        _manager.SetJob(job);
        Beat("worker-a");
        Advance(1);
        Assert.Contains("1 of 2 workers are there; the run waits (training.start_workers)", Decide().Reason);
        Beat("worker-b");
        Advance(0.6);
        Form(new EpochOrigin("", 0));
        Steps("worker-a", "worker-b");
        Leave("worker-b");
        Assert.Equal(["worker-a"], Form(null).Workers.Select(w => w.WorkerId));
    }

    [Fact]
    public void BelowTheMinimumACancellationStillReachesWhoHoldsState()
    {
        Begin(minWorkers: 2);
        Beat("worker-a", step: 6);
        Advance(1);
        Assert.True(Decide().IsAwaitingWorkers);
        _manager.Cancel();
        Form(null);
        Assert.True(Plan("worker-a").Cancel);
    }

    [Fact]
    public void WorkersBeyondTheMaximumStandByAndStepIn()
    {
        _manager.SetJob(Job(maxWorkers: 2));
        Beat("worker-a");
        Beat("worker-b");
        Beat("worker-c");
        Advance(0.6);
        Assert.Equal(["worker-a", "worker-b"], Form(new EpochOrigin("", 0)).Workers.Select(w => w.WorkerId));
        Steps("worker-a", "worker-b");
        Prepared("worker-c");
        Leave("worker-a");
        Assert.Equal(["worker-b", "worker-c"], Form(null).Workers.Select(w => w.WorkerId));
    }

    [Fact]
    public void AProcessKilledForMemoryIsNamedByTheOneInItsPlace()
    {
        Enter(new HeartbeatRequest { WorkerId = "worker-0-aaaaaa", Address = "http://worker-0-aaaaaa", MemoryKills = 1 });
        Enter(new HeartbeatRequest { WorkerId = "worker-1-aaaaaa", Address = "http://worker-1-aaaaaa", MemoryKills = 0 });
        Started("worker-0-aaaaaa", "worker-1-aaaaaa");
        Kill("worker-1-aaaaaa");
        Enter(new HeartbeatRequest { WorkerId = "worker-1-bbbbbb", Address = "http://elsewhere", MemoryKills = 1 });
        var notice = Assert.Single(_manager.TakeNotices(), n => n.Kind == RunEvents.WorkerOutOfMemory);
        Assert.Contains("worker-1-aaaaaa was killed for memory", notice.Message);
        Enter(new HeartbeatRequest { WorkerId = "worker-0-cccccc", Address = "http://worker-0-aaaaaa", MemoryKills = 1 });
        Assert.DoesNotContain(_manager.TakeNotices(), n => n.Kind == RunEvents.WorkerOutOfMemory);
    }

    [Theory]
    [InlineData(4, "0 0 2 2 1 1 1 1")]
    [InlineData(1, "0 0 1 1")]
    public void KillsForMemoryMakeTheMicroBatchSmallerAndAreNotSurvivedForEver(int microBatch, string expected)
    {
        _manager.SetJob(MemoryJob(microBatch));
        var most = new List<int>();
        for (var kills = 0; ; kills++)
        {
            Replace(kills);
            if (Decide() is { Action: EpochAction.Fail } decision)
            {
                Assert.Equal("OUT_OF_MEMORY", decision.Error!.Reason);
                Assert.Contains($"killed for memory {kills} times without getting further", decision.Error.Message);
                break;
            }

            Form(new EpochOrigin("", 0));
            most.Add(Plan(Id(kills)).MaxMicroBatchSize);
        }

        Assert.Equal(expected, string.Join(' ', most));
    }

    [Fact]
    public void KillsForMemoryOfARunThatGetsFurtherAreNoReasonToComputeOtherwise()
    {
        _manager.SetJob(MemoryJob(4));
        for (var kills = 0; kills < 20; kills++)
        {
            Replace(kills);
            Form(new EpochOrigin("", 0));
            Assert.Equal(0, Plan(Id(kills)).MaxMicroBatchSize);
            _manager.Progressed();
        }

        // Nor are those of processes that never took part.
        for (var kills = 0; kills < 9; kills++)
        {
            Enter(new HeartbeatRequest { WorkerId = $"worker-1-{kills:D6}", Address = "http://worker-1", MemoryKills = kills });
        }

        Replace(20);
        Form(new EpochOrigin("", 0));
        Assert.Equal(0, Plan(Id(20)).MaxMicroBatchSize);
    }

    private static string Id(int kills) => $"worker-0-{kills:D6}";

    private static TrainingJob MemoryJob(int microBatch)
    {
        var job = Job();
        job.Spec.Training.MicroBatchSize = microBatch;
        return job;
    }

    private void Replace(int kills)
    {
        if (kills > 0)
        {
            Kill(Id(kills - 1));
        }

        Enter(new HeartbeatRequest { WorkerId = Id(kills), Address = "http://worker-0", MemoryKills = kills });
        Beat(Id(kills), address: "http://worker-0");
        Advance(0.6);
    }

    [Fact]
    public void WhoLeavesIsNotInTheNextEpoch()
    {
        Started("worker-a", "worker-b");
        Leave("worker-a");
        var start = Form(null);
        Assert.Equal(["worker-b"], start.Workers.Select(w => w.WorkerId));
        Assert.Contains("worker-a left", start.Reason);
    }

    [Fact]
    public void TheLastOneThatLeavesKeepsItsEpochToReportTheCheckpoint()
    {
        Started("worker-a");
        Leave("worker-a");
        var decision = Decide();
        Assert.Equal((EpochAction.Wait, true), (decision.Action, decision.IsAwaitingWorkers));
        Assert.True(_manager.Accepts("runs/some-run", _epoch, "worker-a"));
    }

    [Fact]
    public void AllWorkersLostMeansWaitingUntilOneComes()
    {
        Started("worker-a", "worker-b");
        Kill("worker-a");
        Kill("worker-b");
        Advance(5.1);
        var decision = Decide();
        Assert.Equal((EpochAction.Wait, true), (decision.Action, decision.IsAwaitingWorkers));
        Assert.Null(decision.Recheck);
        Beat("worker-c");
        Advance(0.6);
        Assert.True(Decide().NeedsOrigin);
        Assert.Single(Form(new EpochOrigin("runs/some-run/checkpoints/00000004", 4)).Workers);
    }

    [Fact]
    public void CancelReachesTheMembersWithinTheirEpoch()
    {
        Started("worker-a", "worker-b");
        var before = _workers["worker-a"].Assignment!.Version;
        _manager.Cancel();
        Assert.True(Plan("worker-a").Cancel);
        Assert.True(Plan("worker-b").Cancel);
        Assert.Equal(_epoch, Plan("worker-a").Epoch);
        Assert.True(_workers["worker-a"].Assignment!.Version > before);
        Assert.Equal(EpochAction.Wait, Decide().Action);
    }

    [Fact]
    public void CancelIsOverAtOnceWhenNobodyTrains()
    {
        Begin();
        Beat("worker-a");
        _manager.Cancel();
        Assert.Equal(EpochAction.Over, Decide().Action);
    }

    [Fact]
    public void CancelIsOverWhenAllMembersAreLost()
    {
        Started("worker-a");
        _manager.Cancel();
        Kill("worker-a");
        Advance(5.1);
        Assert.Equal(EpochAction.Over, Decide().Action);
    }

    [Fact]
    public void AnEpochThatBreaksWhileCancellingIsReplacedByOneThatStops()
    {
        Started("worker-a", "worker-b");
        _manager.Cancel();
        Kill("worker-b");
        Beat("worker-a", step: 5, failure: Failure("worker-b"));
        Advance(0.4);
        Form(null);
        Assert.True(Plan("worker-a").Cancel);
    }

    [Fact]
    public void AFatalFailureEndsTheRunWithItsReason()
    {
        Started("worker-a", "worker-b");
        var failure = Failure("");
        failure.Fatal = new RunError { Reason = "OUT_OF_MEMORY", Message = "It does not fit." };
        Beat("worker-b", failure: failure);
        var decision = Decide();
        Assert.Equal((EpochAction.Fail, "OUT_OF_MEMORY"), (decision.Action, decision.Error!.Reason));
    }

    [Fact]
    public void AFailureOfAnOldEpochIsNoNews()
    {
        Started("worker-a", "worker-b");
        Beat("worker-a", step: 5, failure: new EpochFailure { Epoch = _epoch - 1, SuspectWorkerId = "worker-b", Fatal = new RunError() });
        Advance(3);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Assert.False(_manager.Accepts("runs/some-run", _epoch - 1, "worker-a"));
        Assert.False(_manager.Accepts("runs/other", _epoch, "worker-a"));
        Assert.False(_manager.Accepts("runs/some-run", _epoch, "worker-z"));
        Assert.True(_manager.Accepts("runs/some-run", _epoch, "worker-a"));
    }

    [Fact]
    public void AfterARestartTheSameWorkersGoOnAtOnceInTheirOrder()
    {
        Begin(expected: ["worker-c", "worker-a", "worker-b"]);
        Beat("worker-a", step: 9);
        Beat("worker-b", step: 9);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Beat("worker-c", step: 9);
        Assert.Equal(["worker-c", "worker-a", "worker-b"], Form(null).Workers.Select(w => w.WorkerId));
        Assert.Empty(_manager.TakeNotices());
    }

    [Fact]
    public void AfterARestartAWorkerThatIsGoneIsWaitedForOnlySoLong()
    {
        Begin(expected: ["worker-a", "worker-b"]);
        Beat("worker-a", step: 9);
        Advance(3.9);
        Assert.Equal(EpochAction.Wait, Decide().Action);
        Beat("worker-a", step: 9);
        Advance(0.2);
        Assert.Equal(["worker-a"], Form(null).Workers.Select(w => w.WorkerId));
        Assert.Equal(9, Plan("worker-a").StartStep);
    }

    [Fact]
    public void BeforeTheFirstDecisionWorkersAreToldNothing()
    {
        Beat("worker-a", step: 9);
        Assert.Null(_workers["worker-a"].Assignment);
        _manager.SetJob(null);
        Assert.Null(_workers["worker-a"].Assignment!.Epoch);
    }

    [Fact]
    public void TheEndOfARunReleasesItsWorkers()
    {
        Started("worker-a", "worker-b");
        _manager.SetJob(null);
        Assert.All(_workers.Values, w => Assert.Null(w.Assignment!.Epoch));
        var version = _workers["worker-a"].Assignment!.Version;
        _manager.SetJob(null);
        Assert.Equal(version, _workers["worker-a"].Assignment!.Version);
    }

    [Fact]
    public void EpochsThatBreakWithoutAStepComeEverMoreSlowly()
    {
        Started("worker-a", "worker-b");
        var pauses = new List<double>();
        for (var i = 0; i < 8; i++)
        {
            Beat("worker-a", step: 5, failure: Failure("worker-b"));
            Beat("worker-b", step: 5, failure: Failure("worker-a"));
            var pause = 0.0;
            while (Decide().Action != EpochAction.Form)
            {
                Advance(0.05);
                pause += 0.05;
            }

            pauses.Add(pause);
            Form(null);
        }

        Assert.True(pauses[0] < 0.1 && pauses[1] < 0.1, string.Join(" ", pauses));
        Assert.True(pauses[^1] > 3 && pauses.Zip(pauses.Skip(1)).All(p => p.First <= p.Second + 1e-9), string.Join(" ", pauses));
        _manager.Progressed();
        Beat("worker-a", step: 6, failure: Failure("worker-b"));
        Beat("worker-b", step: 6, failure: Failure("worker-a"));
        Assert.Equal(EpochAction.Form, Decide().Action);
    }

    [Fact]
    public async Task AHeartbeatIsAnsweredAtOnceWhenTheAssignmentIsNews()
    {
        Begin();
        using var ticket = _manager.Enter(Request("worker-a"));
        var answer = ticket.WaitAsync(0, TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        Assert.False(answer.IsCompleted);
        Advance(0.6);
        Form(new EpochOrigin("", 0));
        var assignment = await answer.WaitAsync(TimeSpan.FromSeconds(10));
        Assert.Equal(_epoch, assignment!.Epoch.Epoch);

        var second = ticket.WaitAsync(assignment.Version, TimeSpan.FromSeconds(3), TestContext.Current.CancellationToken);
        Assert.False(second.IsCompleted);
        Advance(3.1);
        Assert.Equal(assignment.Version, (await second.WaitAsync(TimeSpan.FromSeconds(10)))!.Version);
    }

    private void Begin(int minWorkers = 1, int microBatches = 8, string[]? expected = null) => _manager.SetJob(Job(minWorkers, microBatches, expected));

    private void Enter(HeartbeatRequest request) => _manager.Enter(request).Dispose();

    private static TrainingJob Job(int minWorkers = 1, int microBatches = 8, string[]? expected = null, int? maxWorkers = null) => new()
    {
        Run = "runs/some-run",
        Attempt = 1,
        Dataset = "datasets/some",
        ExpectedWorkers = expected ?? [],
        Spec = RunSpecResolverTests.Resolve(s => s.Training = new TrainingSpec { BatchSize = microBatches, MicroBatchSize = 1, MinWorkers = minWorkers, MaxWorkers = maxWorkers ?? microBatches }),
    };

    /// <summary>A run that some workers are at, five steps from the start.</summary>
    private void Started(params string[] ids)
    {
        Begin();
        foreach (var id in ids)
        {
            Beat(id);
        }

        Advance(0.6);
        Form(new EpochOrigin("", 0));
        Steps(ids);
        _manager.TakeNotices();
    }

    private void Steps(params string[] ids)
    {
        foreach (var id in ids)
        {
            Beat(id, step: 5);
        }

        _manager.Progressed();
    }

    /// <summary>A worker has everything but the state.</summary>
    private void Prepared(string id) => Beat(id, step: -1);

    private void Beat(string id, long? step = null, int attempt = 1, EpochFailure? failure = null, string? address = null, bool leaving = false, string fingerprint = "")
    {
        if (!_workers.TryGetValue(id, out var worker))
        {
            worker = _workers[id] = new Worker(id, address ?? $"http://localhost/{id}");
        }

        var request = Request(id, worker.Address);
        request.State = step is null ? null : new WorkerState { Run = "runs/some-run", Attempt = attempt, Step = step.Value };
        request.Failure = failure;
        request.Leaving = leaving;
        request.Fingerprint = fingerprint;
        worker.Ticket?.Dispose();
        worker.Ticket = _manager.Enter(request);
    }

    private void Leave(string id) => Beat(id, step: 5, leaving: true);

    private void Kill(string id)
    {
        _workers[id].Ticket!.Dispose();
        _workers[id].Ticket = null;
    }

    private EpochFailure Failure(string suspect) => new() { Epoch = _epoch, SuspectWorkerId = suspect, Message = "The connection was reset." };

    private EpochDecision Decide() => _manager.Decide();

    private EpochStart Form(EpochOrigin? origin)
    {
        var decision = Decide();
        Assert.True(decision.Action == EpochAction.Form, $"{decision.Action}: {decision.Reason}");
        return Assert.IsType<EpochStart>(_manager.Begin(++_epoch, origin));
    }

    private EpochPlan Plan(string id) => _workers[id].Assignment!.Epoch;

    private void Advance(double seconds) => _time.Advance(TimeSpan.FromSeconds(seconds));

    private static HeartbeatRequest Request(string id, string? address = null) =>
        new() { WorkerId = id, Address = address ?? $"http://localhost/{id}", Device = "cpu" };

    private sealed class Worker(string id, string address)
    {
        public string Id => id;

        public string Address => address;

        public EpochManager.HeartbeatTicket? Ticket { get; set; }

        /// <summary>What it would be told now.</summary>
        public Assignment? Assignment => Ticket!.WaitAsync(-1, TimeSpan.Zero, default).GetAwaiter().GetResult();
    }
}
