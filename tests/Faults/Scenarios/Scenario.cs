namespace LlmPipeline.Faults.Scenarios;

/// <summary>Something that was measured, and what it may be at most (or at least) on a quiet machine with two cores.</summary>
/// <param name="What">Its name and unit.</param>
/// <param name="Value">The measured value.</param>
/// <param name="Goal">The limit.</param>
/// <param name="AtLeast">The value may not be below the limit, instead of not above it.</param>
/// <param name="IsTime">The limit is wall time, which a loaded machine may take three times of.</param>
public sealed record Figure(string What, double Value, double Goal, bool AtLeast = false, bool IsTime = true)
{
    /// <summary>Whether the goal is met, with time stretched by a factor.</summary>
    public bool Meets(double slack) => AtLeast ? Value >= Goal / (IsTime ? slack : 1) : Value <= Goal * (IsTime ? slack : 1);
}

/// <summary>What a scenario is done with.</summary>
/// <param name="Setup">Clusters and the undisturbed run.</param>
/// <param name="Random">Chooses instants and victims.</param>
/// <param name="IsLong">The long form: everything that the test names. The short one takes what fits into a minute.</param>
public sealed record ScenarioContext(ReferenceSetup Setup, Random Random, bool IsLong);

/// <summary>This machine does not allow what a scenario needs.</summary>
public sealed class ScenarioSkippedException(string message) : Exception(message);

/// <summary>A fault and what has to hold through it. What must be the same bits is compared inside and throws; times come back as figures.</summary>
/// <param name="Number">Number of the reliability test.</param>
/// <param name="Title">What happens.</param>
/// <param name="Repetitions">How often it is done in the long form, each time at another random instant.</param>
/// <param name="RunAsync">Does it once.</param>
/// <param name="Part">A letter, where a reliability test has more than one scenario.</param>
public sealed partial record Scenario(int Number, string Title, int Repetitions, Func<ScenarioContext, Task<IReadOnlyList<Figure>>> RunAsync, string Part = "")
{
    /// <summary>Number and part.</summary>
    public string Id => $"{Number}{Part}";

    /// <summary>Waits for a random instant in the middle of a run.</summary>
    internal static async Task<DateTime> InstantAsync(TrainingCluster cluster, string run, Random random)
    {
        await cluster.WaitForStepAsync(run, random.Next(20, 180));
        await Task.Delay(random.Next(0, 120));
        return DateTime.UtcNow;
    }

    /// <summary>Throws where an outcome is not the bits of the undisturbed run.</summary>
    internal static async Task SameAsync(ReferenceSetup setup, TrainingCluster cluster, TrainingOutcome outcome)
    {
        if (outcome.DifferenceFrom(await setup.ReferenceAsync(outcome.Steps.Count)) is { } difference)
        {
            throw new InvalidOperationException($"The result is not that of the undisturbed run: {difference}.\n{cluster.Pipeline.Describe(outcome.Run)}");
        }
    }

    /// <summary>The median; NaN of nothing.</summary>
    public static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToList();
        return sorted.Count == 0 ? double.NaN : (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]) / 2;
    }

    /// <summary>Throws with all that is known unless a condition holds.</summary>
    internal static void Require(bool condition, string what, TrainingCluster cluster, TrainingOutcome outcome)
    {
        if (!condition)
        {
            throw new InvalidOperationException($"{what}\n{cluster.Pipeline.Describe(outcome.Run)}");
        }
    }

    /// <summary>Seconds from a moment to the first step after it that so many workers took.</summary>
    internal static double SecondsToStep(TrainingCluster cluster, TrainingOutcome outcome, DateTime moment, int? workers)
    {
        var step = outcome.FirstStepAfter(moment, workers);
        Require(step is not null, $"No step of {workers} workers came after {moment:HH:mm:ss.fff}; the random instant was too late or the workers did not go on.", cluster, outcome);
        return (step!.Value - moment).TotalSeconds;
    }
}
