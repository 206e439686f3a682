using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Faults.Tests;

/// <summary>A scenario once, at one random instant.</summary>
internal static class ShortForm
{
    /// <summary>Wall time that a shared machine may take, as a multiple of what a quiet one has.</summary>
    private const double Slack = 3;

    /// <summary>What every test run has, in some minutes; all of it takes a quarter of an hour.</summary>
    private static readonly string[] Always = ["1", "2", "3", "6", "7", "8", "9", "11", "15", "15b", "17", "24", "45"];

    /// <summary>Of these every test run draws one, so that some runs have had all.</summary>
    private static readonly string[] InTurn = ["4", "5", "9b", "10", "12", "13", "14", "16", "44"];

    private static readonly string Drawn = InTurn[Random.Shared.Next(InTurn.Length)];

    public static async Task RunAsync(Scenario scenario, ReferenceSetup setup, ITestOutputHelper output)
    {
        Assert.SkipUnless(Always.Contains(scenario.Id) || scenario.Id == Drawn || Environment.GetEnvironmentVariable("LLMPIPELINE_RELIABILITY") == "1",
            $"Reliability test {scenario.Number} takes a minute or more; this time number {Drawn} was drawn in its place. LLMPIPELINE_RELIABILITY=1 runs all; the long form is bench -- reliability {scenario.Number}.");
        var seed = Environment.GetEnvironmentVariable("LLMPIPELINE_FAULT_SEED") is { Length: > 0 } text ? int.Parse(text, null) : Random.Shared.Next();
        output.WriteLine($"Seed {seed}: LLMPIPELINE_FAULT_SEED={seed} takes the same instants again.");
        try
        {
            var figures = await scenario.RunAsync(new ScenarioContext(setup, new Random(seed), IsLong: false));
            foreach (var figure in figures)
            {
                output.WriteLine($"{figure.What}: {figure.Value:0.###} (goal {figure.Goal:0.###})");
            }

            Assert.All(figures, figure => Assert.True(figure.Meets(Slack), $"{scenario.Title}, seed {seed}: {figure.What} is {figure.Value:0.###}, the goal is {figure.Goal:0.###}."));
        }
        catch (ScenarioSkippedException skipped)
        {
            Assert.Skip(skipped.Message);
        }
        catch
        {
            // Whatever state the processes are in, the next test begins with others.
            setup.Discard();
            throw;
        }
    }
}
