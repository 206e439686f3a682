using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;

namespace LlmPipeline.Bench.Mr;

/// <summary>
/// Sentence polarity (MR): a network that was a language model before against the same network from scratch, over 10 folds, with
/// all labels and with a tenth of them. Folds that are done are kept, so an interrupted bench goes on where it was.
/// </summary>
internal static class MrBench
{
    private const double GoalPoints = 3;
    private const double GoalP = 0.05;

    /// <param name="arguments"><c>folds=N</c>: the first N folds only; <c>--anew</c>: throws away what is kept; <c>--tune</c>: tries learning rates on
    /// fold 0's held-out sentences.</param>
    public static async Task<int> RunAsync(string[] arguments)
    {
        var data = Path.GetFullPath(Environment.GetEnvironmentVariable("LLMPIPELINE_TEST_DATA") ?? Path.Combine(Machine.RepositoryRoot, "..", "shared", "data"));
        var folds = arguments.FirstOrDefault(a => a.StartsWith("folds=", StringComparison.Ordinal)) is { } given ? int.Parse(given.AsSpan(6), CultureInfo.InvariantCulture) : Sentence.Folds;
        var folder = Path.Combine(Path.GetTempPath(), "llmpipeline-bench", "mr");
        if (arguments.Contains("--anew") && Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }

        Directory.CreateDirectory(folder);
        var sentences = MrData.Read(data);
        using var training = new MrTraining(data, folder);
        var pretrainingLoss = await training.PretrainAsync();
        if (arguments.Contains("--tune"))
        {
            return await TuneAsync(training, sentences);
        }

        var results = new List<FoldResult>();
        foreach (var few in new[] { false, true })
        {
            for (var fold = 0; fold < folds; fold++)
            {
                results.Add(await FoldAsync(training, sentences, fold, few, folder));
            }
        }

        return await PublishAsync(results, pretrainingLoss, folds);
    }

    private static async Task<FoldResult> FoldAsync(MrTraining training, List<Sentence> sentences, int fold, bool few, string folder)
    {
        var path = Path.Combine(folder, $"fold-{fold}{(few ? "-few" : "")}.json");
        if (File.Exists(path))
        {
            return JsonSerializer.Deserialize<FoldResult>(await File.ReadAllTextAsync(path))!;
        }

        Console.WriteLine($"== {DateTime.Now:HH:mm:ss} fold {fold}, {(few ? "a tenth of the labels" : "all labels")}");
        List<Sentence> train = [.. sentences.Where(s => s.Fold != fold && (!few || s.IsAmongFew))];
        List<Sentence> test = [.. sentences.Where(s => s.Fold == fold)];
        var start = Process.GetCurrentProcess().TotalProcessorTime;
        await training.AdaptAsync($"fold-{fold}", [.. sentences.Where(s => s.Fold != fold)]);
        var scratch = training.Classify(train, test, null, Recipe.FromScratch, fold + 1);
        var tuned = training.Classify(train, test, $"fold-{fold}", Recipe.FineTuning, fold + 1);
        var floor = NaiveBayes.Classify(train, test);
        var result = new FoldResult(fold, few, test.Count, scratch.Count(r => r), tuned.Count(r => r), floor.Count(r => r), (Process.GetCurrentProcess().TotalProcessorTime - start).TotalSeconds);
        await File.WriteAllTextAsync(path, JsonSerializer.Serialize(result));
        Console.WriteLine(FormattableString.Invariant($"   from scratch {result.Scratch:P1}, fine-tuned {result.Tuned:P1}, naive Bayes {result.Floor:P1}"));
        return result;
    }

    private static async Task<int> PublishAsync(List<FoldResult> results, double pretrainingLoss, int folds)
    {
        var rows = new StringBuilder();
        var gaps = new Dictionary<bool, (double Points, double P)>();
        foreach (var few in new[] { false, true })
        {
            List<FoldResult> of = [.. results.Where(r => r.Few == few).OrderBy(r => r.Fold)];
            foreach (var r in of)
            {
                rows.AppendLine(CultureInfo.InvariantCulture, $"| {(few ? "a tenth" : "all")} | {r.Fold} | {r.Count} | {r.Scratch:P1} | {r.Tuned:P1} | {100 * (r.Tuned - r.Scratch):F1} | {r.Floor:P1} | {r.Seconds:F0} |");
            }

            double[] differences = [.. of.Select(r => 100 * (r.Tuned - r.Scratch))];
            var (t, p) = PairedTest.Of(differences);
            gaps[few] = (differences.Average(), p);
            rows.AppendLine(CultureInfo.InvariantCulture,
                $"| {(few ? "a tenth" : "all")} | mean | {of.Sum(r => r.Count)} | {of.Average(r => r.Scratch):P1} | {of.Average(r => r.Tuned):P1} | {gaps[few].Points:F1} (t = {t:F2}, p = {p:G2}) | {of.Average(r => r.Floor):P1} | {of.Sum(r => r.Seconds):F0} |");
        }

        var (points, probability) = gaps[false];
        var last = FormattableString.Invariant($"mr: {points:F1} points, p = {probability:G2} (goal {GoalPoints} points, p < {GoalP})");
        await Machine.PublishAsync("mr", $"""
            # Sentence polarity: fine-tuned against from scratch

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- mr" + (folds < Sentence.Folds ? $" folds={folds}" : ""))}

            The network is a {Recipe.Architecture} of {Recipe.Layers} layers, width {Recipe.Width}, over a BPE of {Recipe.VocabularySize} ids. Pretrained: {Recipe.Pretraining.Epochs} epoch of WikiText-2 in lower case, validation loss {pretrainingLoss.ToString("F3", CultureInfo.InvariantCulture)} nats per token; then {Recipe.Adapting.Epochs} epoch of the sentences that the fold is trained on, all of them without labels, as ULMFiT does (Howard and Ruder 2018). Both train {Recipe.FineTuning.Epochs} epochs at most, and keep the one with the lowest loss on a tenth of the training sentences, held out. Folds are made by a hash of the sentence. The p is that of a two-sided paired t-test over the folds. Naive Bayes counts words and pairs of words. Published with a convolutional network: 75.9 to 76.1 % from random embeddings, 80.5 to 81.5 % from embeddings of 100 billion words (Kim 2014).

            | labels | fold | sentences | from scratch | fine-tuned | points | naive Bayes | CPU seconds |
            | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
            {rows.ToString().TrimEnd()}

            {last}
            """);
        return points >= GoalPoints && probability < GoalP ? 0 : 1;
    }

    // Fold 0 is never tested here: its training sentences alone are divided once more.
    private static async Task<int> TuneAsync(MrTraining training, List<Sentence> sentences)
    {
        List<Sentence> known = [.. sentences.Where(s => s.Fold != 0)];
        List<Sentence> train = [.. known.Where(s => s.Fold != 1)];
        List<Sentence> test = [.. known.Where(s => s.Fold == 1)];
        await training.AdaptAsync("tuning", train);
        Console.WriteLine(FormattableString.Invariant($"naive Bayes {NaiveBayes.Classify(train, test).Average(r => r ? 1.0 : 0):P1}"));
        foreach (var pretrained in new[] { "tuning", null })
        {
            foreach (var rate in pretrained is null ? new[] { 3e-4, 1e-3 } : [1e-3, 2e-3])
            {
                foreach (var dropout in new[] { 0.2, 0.4 })
                {
                    var right = training.Classify(train, test, pretrained, Recipe.FineTuning with { LearningRate = rate, Dropout = dropout }, 1);
                    Console.WriteLine(FormattableString.Invariant($"{(pretrained is null ? "from scratch" : "fine-tuned")}, learning rate {rate}, dropout {dropout}: {right.Average(r => r ? 1.0 : 0):P1}"));
                }
            }
        }

        return 0;
    }

    /// <summary>What a fold gave.</summary>
    /// <param name="Fold">Which.</param>
    /// <param name="Few">A tenth of the labels.</param>
    /// <param name="Count">Test sentences.</param>
    /// <param name="ScratchRight">Right ones from scratch.</param>
    /// <param name="TunedRight">Right ones fine-tuned.</param>
    /// <param name="FloorRight">Right ones of naive Bayes.</param>
    /// <param name="Seconds">CPU time.</param>
    private sealed record FoldResult(int Fold, bool Few, int Count, int ScratchRight, int TunedRight, int FloorRight, double Seconds)
    {
        public double Scratch => (double)ScratchRight / Count;

        public double Tuned => (double)TunedRight / Count;

        public double Floor => (double)FloorRight / Count;
    }
}
