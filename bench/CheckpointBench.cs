using System.Diagnostics;
using System.Globalization;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Bench;

/// <summary>What checkpoints cost: the trainer's own loop over 10.7 million parameters, with and without them in turn, each run a process.</summary>
internal static class CheckpointBench
{
    public const string SelfCommand = "checkpoint-self";

    private const int Vocabulary = 65;
    private const int Steps = 500;
    private const int Interval = 250; // the default of training.checkpoint_interval
    private const double GoalPercent = 2;

    public static async Task<int> RunAsync(int rounds)
    {
        var folder = Directory.CreateDirectory(Path.Combine(Machine.RepositoryRoot, "bench", "obj", "checkpoint"));
        IReadOnlyList<Measured> results;
        try
        {
            results = await SideBySide.RunAsync(rounds,
                new Side("without", () => MeasuredProcess.RunSelfAsync(SelfCommand, "none")),
                new Side($"every {Interval} steps and at the end", () => MeasuredProcess.RunSelfAsync(SelfCommand, folder.FullName)));
        }
        finally
        {
            if (Directory.Exists(folder.FullName))
            {
                folder.Delete(recursive: true);
            }
        }

        var (without, with) = (results[0], results[1]);
        var wall = Ratio("wall_seconds");
        var cpu = Ratio("cpu_seconds");
        var last = string.Create(CultureInfo.InvariantCulture, $"checkpoint: {wall.Median:F2} % (goal {GoalPercent} %)");
        var machine = await Machine.DescribeAsync("dotnet run -c Release --project bench -- checkpoint");
        await Machine.PublishAsync("checkpoint", string.Create(CultureInfo.InvariantCulture, $"""
            # What checkpoints cost a run

            {machine}

            The trainer's loop in one process, {Said(with, "parameters").Median:N0} parameters (fp32, AdamW), {Steps} steps of 64 tokens, with a checkpoint every {Interval} steps (the default) and at the end, and without; {rounds} processes a side in turn. A checkpoint is {Said(with, "checkpoint_bytes").Median / 1e6:F0} MB in a folder: weights, both moments, position, manifest with SHA-256. Steps are short here; with larger batches the share is smaller.

            | | wall s of the steps | CPU s of the steps | resident MB after 100 steps, at the end |
            | --- | ---: | ---: | ---: |
            {string.Join('\n', results.Select(r => string.Create(CultureInfo.InvariantCulture, $"| {r.Name} | {Said(r, "wall_seconds")} | {Said(r, "cpu_seconds")} | {Said(r, "resident_early").Median / 1e6:F0}, {Said(r, "resident_late").Median / 1e6:F0} |")))}

            | | median (min-max) |
            | --- | ---: |
            | wall time with against without, pair by pair | {wall} % |
            | CPU time with against without, pair by pair | {cpu} % |
            | a step is held up by a checkpoint while training goes on | {Said(with, "held_milliseconds")} ms |
            | the end waits for the last one | {Said(with, "last_milliseconds")} ms |

            {last}
            """));
        return wall.Median <= GoalPercent ? 0 : 1;

        Spread Ratio(string name) => Spread.Of(without.Runs.Zip(with.Runs, (a, b) =>
            100 * ((MeasuredProcess.Said(b.Output, name)!.Value / MeasuredProcess.Said(a.Output, name)!.Value) - 1)));
    }

    /// <summary>Trains in this process, with checkpoints in a folder or "none", and says what it took.</summary>
    public static int RunSelf(string folder)
    {
        TorchRuntime.Initialize();
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }

        var store = folder == "none" ? null : new FolderBlobStore(folder);
        var spec = new RunSpec
        {
            Model = new ModelSpec { Architecture = "gpt2", Layers = 6, Heads = 6, Width = 384, Context = 64, Dropout = 0, Bias = false },
            Training = new TrainingSpec { Steps = Steps, BatchSize = 1, MicroBatchSize = 1, CheckpointInterval = Interval },
        };
        long parameters = 0, early = 0;
        long begin = 0;
        var used = TimeSpan.Zero;
        var steps = LoneTraining.Run(spec, Vocabulary, replica =>
        {
            // The first steps meet cold caches.
            if (replica.State.Step == 10)
            {
                (begin, used, parameters) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime, replica.Model.ParameterCount);
            }

            early = replica.State.Step == 100 ? Environment.WorkingSet : early;
        }, checkpoints: store is null ? null : new CheckpointStore(store, "{}"));
        MeasuredProcess.Say("wall_seconds", Stopwatch.GetElapsedTime(begin).TotalSeconds);
        MeasuredProcess.Say("cpu_seconds", (Environment.CpuUsage.TotalTime - used).TotalSeconds);
        MeasuredProcess.Say("parameters", parameters);
        MeasuredProcess.Say("resident_early", early);
        MeasuredProcess.Say("resident_late", Environment.WorkingSet);
        MeasuredProcess.Say("held_milliseconds", 1e3 * steps.Single(s => s.Step == Interval).Phases.Checkpoint);
        MeasuredProcess.Say("last_milliseconds", 1e3 * steps[^1].Phases.Checkpoint);
        MeasuredProcess.Say("checkpoint_bytes", store is null ? 0 : Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Where(f => f.Contains($"{Steps:D8}", StringComparison.Ordinal)).Sum(f => new FileInfo(f).Length));
        return 0;
    }

    private static Spread Said(Measured side, string name) => Spread.Of(side.Runs.Select(r => MeasuredProcess.Said(r.Output, name)!.Value));
}
