using System.Text.RegularExpressions;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Coordinator;
using LlmPipeline.Trainer.Worker;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Tests.Coordinator;

public sealed partial class RunStatesTests
{
    [Fact]
    public void TheTableSaysWhatTheCommentInTheProtoSays()
    {
        var proto = File.ReadAllText(Path.Combine(RepositoryRoot(), "protos/llmpipeline/runs/v1/run.proto"));
        var comment = Whitespace().Replace(EnumComment().Match(proto).Groups[1].Value.Replace("//", "", StringComparison.Ordinal), " ").Trim();
        var sentences = Regex.Match(comment,
            @"^Where a run is in its life\. (?<chain>[A-Z]+( -> [A-Z]+)+)\. Each of the first (?<count>\w+) may go to FAILED, or to CANCELLING and from there to CANCELLED\. ResumeRun leads FAILED and CANCELLED to QUEUED\.$");
        Assert.True(sentences.Success, $"The comment has another form: {comment}");

        var chain = sentences.Groups["chain"].Value.Split(" -> ").Select(Parse).ToArray();
        Assert.Equal("five", sentences.Groups["count"].Value);
        var expected = Enum.GetValues<State>().Where(s => s != State.Unspecified).ToDictionary(s => s, _ => new SortedSet<State>());
        foreach (var (from, to) in chain.Zip(chain.Skip(1)))
        {
            expected[from].Add(to);
        }

        foreach (var state in chain.Take(5))
        {
            expected[state].UnionWith([State.Failed, State.Cancelling]);
        }

        expected[State.Cancelling].Add(State.Cancelled);
        expected[State.Failed].Add(State.Queued);
        expected[State.Cancelled].Add(State.Queued);

        Assert.Equal(expected.Keys.Order(), RunStates.Transitions.Keys.Order());
        Assert.All(expected, pair => Assert.Equal(pair.Value, RunStates.Transitions[pair.Key].Order()));
    }

    [Fact]
    public void WhatTheTableDoesNotAllowThrowsAndChangesNothing()
    {
        foreach (var from in RunStates.Transitions.Keys)
        {
            foreach (var to in RunStates.Transitions.Keys.Except(RunStates.Transitions[from]))
            {
                var run = new Run { Name = "runs/some", State = from };
                Assert.Throws<InvalidOperationException>(() => RunStates.Move(run, to, DateTimeOffset.UtcNow));
                Assert.Equal(from, run.State);
            }
        }
    }

    [Fact]
    public void EndTimeIsSetInTerminalStatesAlone()
    {
        var run = new Run { Name = "runs/some", State = State.Publishing };
        RunStates.Move(run, State.Succeeded, DateTimeOffset.UnixEpoch);
        Assert.NotNull(run.EndTime);
        Assert.Equal(1, run.Progress.Fraction);

        run = new Run { Name = "runs/some", State = State.Training };
        RunStates.Move(run, State.Failed, DateTimeOffset.UnixEpoch);
        Assert.NotNull(run.EndTime);
        RunStates.Move(run, State.Queued, DateTimeOffset.UnixEpoch);
        Assert.Null(run.EndTime);
    }

    [Fact]
    public void OnlyTheNewestEventsAreKept()
    {
        var run = new Run();
        for (var i = 0; i < 300; i++)
        {
            RunEvents.Add(run, "KIND", $"{i}", DateTimeOffset.UnixEpoch);
        }

        Assert.Equal(Enumerable.Range(100, 200).Select(i => $"{i}"), run.Events.Select(e => e.Message));
    }

    [Fact]
    public void WhatSaysHowARunComputesIsKeptWithItsNumber()
    {
        var run = new Run();
        for (var i = 1; i <= 300; i++)
        {
            RunEvents.Add(run, i switch { 2 => RunEventKinds.PrecisionChosen, 50 => RunEventKinds.MicroBatchReduced, _ => "KIND" }, $"{i}", DateTimeOffset.UnixEpoch);
        }

        long[] expected = [2, 50, .. Enumerable.Range(103, 198)];
        Assert.Equal(expected, run.Events.Select(e => e.Sequence));

        // Even where all are of these kinds, there is an end, and no number is given twice.
        for (var i = 301; i <= 600; i++)
        {
            RunEvents.Add(run, i == 600 ? "KIND" : RunEventKinds.MicroBatchReduced, $"{i}", DateTimeOffset.UnixEpoch);
        }

        Assert.Equal(Enumerable.Range(401, 200).Select(i => (long)i), run.Events.Select(e => e.Sequence));
    }

    internal static string RepositoryRoot()
    {
        var folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "LlmPipeline.sln")))
        {
            folder = Path.GetDirectoryName(folder) ?? throw new InvalidOperationException("LlmPipeline.sln is in no folder above the tests.");
        }

        return folder;
    }

    private static State Parse(string name) => Enum.Parse<State>(name, ignoreCase: true);

    [GeneratedRegex(@"((?:^ *//.*\n)+) *enum State", RegexOptions.Multiline)]
    private static partial Regex EnumComment();

    [GeneratedRegex(@"\s+")]
    private static partial Regex Whitespace();
}
