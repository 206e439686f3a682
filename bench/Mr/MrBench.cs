using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using LlmPipeline.Bench.Quality;

namespace LlmPipeline.Bench.Mr;

/// <summary>
/// Sentence polarity (MR): the same network from scratch, from published word vectors, and fine-tuned after it was trained on film
/// reviews, over 10 folds, with all labels and with a tenth of them. Folds that are done are kept, so an interrupted bench goes on where it was.
/// </summary>
internal static class MrBench
{
    private const double GoalPoints = 3;
    private const double GoalP = 0.05;

    private static string Folder => Path.Combine(Path.GetTempPath(), "llmpipeline-bench", "mr-reviews");

    /// <param name="arguments"><c>folds=N</c>: the first N folds only; <c>--anew</c>: throws away what is kept; <c>--tune</c>: tries learning rates on
    /// fold 0's training sentences.</param>
    public static async Task<int> RunAsync(string[] arguments)
    {
        if (arguments.Contains("--tune"))
        {
            return await TuneAsync();
        }

        var folds = arguments.FirstOrDefault(a => a.StartsWith("folds=", StringComparison.Ordinal)) is { } given ? int.Parse(given.AsSpan(6), CultureInfo.InvariantCulture) : Sentence.Folds;
        return (await MeasureAsync(arguments.Contains("--anew"), folds)).All(f => f.Holds) ? 0 : 1;
    }

    /// <summary>Measures, leaves its table, and says what became of the published figure, and of fine-tuning.</summary>
    public static async Task<IReadOnlyList<Figure>> MeasureAsync(bool anew, int folds = Sentence.Folds)
    {
        if (anew && Directory.Exists(Folder))
        {
            Directory.Delete(Folder, recursive: true);
        }

        var sentences = MrData.Read(Machine.TestData);
        using var training = Training(sentences);
        var vectors = await training.TakeVectorsAsync();
        var ofReviews = await training.PretrainAsync();
        var results = new List<FoldResult>();
        foreach (var few in new[] { false, true })
        {
            for (var fold = 0; fold < folds; fold++)
            {
                results.Add(await FoldAsync(training, sentences, fold, few));
            }
        }

        return await PublishAsync(results, $"{vectors:N0} of {training.VocabularySize:N0} words have a vector", ofReviews, folds);
    }

    private static MrTraining Training(List<Sentence> sentences)
    {
        Directory.CreateDirectory(Folder);
        return new MrTraining(Folder, sentences);
    }

    private static async Task<FoldResult> FoldAsync(MrTraining training, List<Sentence> sentences, int fold, bool few)
    {
        var path = Path.Combine(Folder, $"fold-{fold}{(few ? "-few" : "")}.json");
        if (File.Exists(path))
        {
            return JsonSerializer.Deserialize<FoldResult>(await File.ReadAllTextAsync(path))!;
        }

        Console.WriteLine($"== {DateTime.Now:HH:mm:ss} fold {fold}, {(few ? "a tenth of the labels" : "all labels")}");
        List<Sentence> train = [.. sentences.Where(s => s.Fold != fold && (!few || s.IsAmongFew))];
        List<Sentence> test = [.. sentences.Where(s => s.Fold == fold)];
        var start = Process.GetCurrentProcess().TotalProcessorTime;
        int Right(string? basis) => training.Classify(train, test, basis, Recipe.Classifying(few), fold + 1).Count(r => r);
        var (scratch, fromVectors, tuned) = (Right(null), Right(MrTraining.Vectors), Right(MrTraining.Reviews));
        var floor = NaiveBayes.Classify(train, test).Count(r => r);
        var result = new FoldResult(fold, few, test.Count, scratch, fromVectors, tuned, floor, (Process.GetCurrentProcess().TotalProcessorTime - start).TotalSeconds);
        await File.WriteAllTextAsync(path, JsonSerializer.Serialize(result));
        Console.WriteLine(FormattableString.Invariant($"   from scratch {result.Scratch:P1}, from word vectors {result.FromVectors:P1}, from film reviews {result.Tuned:P1}, naive Bayes {result.Floor:P1}"));
        return result;
    }

    private static async Task<IReadOnlyList<Figure>> PublishAsync(List<FoldResult> results, string vectors, double ofReviews, int folds)
    {
        var rows = new StringBuilder();
        foreach (var few in new[] { false, true })
        {
            List<FoldResult> of = [.. results.Where(r => r.Few == few).OrderBy(r => r.Fold)];
            var labels = few ? "a tenth" : "all";
            foreach (var r in of)
            {
                rows.AppendLine(CultureInfo.InvariantCulture,
                    $"| {labels} | {r.Fold} | {r.Count} | {r.Scratch:P1} | {r.FromVectors:P1} | {100 * (r.FromVectors - r.Scratch):F1} | {r.Tuned:P1} | {100 * (r.Tuned - r.Scratch):F1} | {r.Floor:P1} | {r.Seconds:F0} |");
            }

            var (byVectors, byTuning) = (GapOf(of, r => r.FromVectors), GapOf(of, r => r.Tuned));
            rows.AppendLine(CultureInfo.InvariantCulture,
                $"| {labels} | mean | {of.Sum(r => r.Count)} | {of.Average(r => r.Scratch):P1} | {of.Average(r => r.FromVectors):P1} | {byVectors.Points:F1} (t = {byVectors.T:F2}, p = {byVectors.P:G2}) | {of.Average(r => r.Tuned):P1} | {byTuning.Points:F1} (t = {byTuning.T:F2}, p = {byTuning.P:G2}) | {of.Average(r => r.Floor):P1} | {of.Sum(r => r.Seconds):F0} |");
        }

        List<FoldResult> all = [.. results.Where(r => !r.Few)];
        var (byWords, byReviews) = (GapOf(all, r => r.FromVectors), GapOf(all, r => r.Tuned));
        var last = FormattableString.Invariant(
            $"mr: word vectors {byWords.Points:F1} points (p = {byWords.P:G2}), fine-tuned from film reviews {byReviews.Points:F1} points (p = {byReviews.P:G2}) (goal {GoalPoints} points, and above 0, each with p < {GoalP})");
        List<FoldResult> untouched = [.. all.Where(r => r.Fold is not (1 or 2 or 3))];
        var without = FormattableString.Invariant($"{GapOf(untouched, r => r.FromVectors).Points:F1} and {GapOf(untouched, r => r.Tuned).Points:F1}");
        await Machine.PublishAsync("mr", $"""
            # Sentence polarity: fine-tuned against from scratch

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- mr" + (folds < Sentence.Folds ? $" folds={folds}" : ""))}

            The network is an {Recipe.Architecture} of {Recipe.Layers} layer, width {Recipe.Width}, over the words of the sentences, embedding width {WordVectors.Width}; its head reads last state, maximum and mean. It begins in three ways: with new weights; with an embedding of GloVe vectors (Pennington et al. 2014; {vectors}), which is trained on like the rest; with all weights of a network that had these vectors and then told for {Recipe.Pretraining.Epochs} epoch whether film reviews praise their film (Maas et al. 2011: 49,000 labelled reviews, cut into pieces of {Recipe.Context} words; of the pieces of 1,000 others it gets {ofReviews.ToString("P1", CultureInfo.InvariantCulture)} right). The sentences are trained on for {Recipe.Classifying(few: false).Epochs} epochs, {Recipe.Classifying(few: true).Epochs} where there are few labels, on nine tenths of the training sentences of a fold, alike whatever a network begins with. What trains how, and on what, was chosen on folds 1 to 3; of the others the gaps are {without} points. Folds are made by a hash of the sentence. A p is that of a two-sided paired t-test over the folds. Naive Bayes counts words and pairs of words. CPU seconds are those of a fold's three trainings; those of the reviews are not among them. Published with a convolutional network: 75.9 to 76.1 % from random embeddings, 80.5 to 81.5 % from embeddings of 100 billion words (Kim 2014).

            | labels | fold | sentences | from scratch | from word vectors | points | fine-tuned from film reviews | points | naive Bayes | CPU seconds |
            | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
            {rows.ToString().TrimEnd()}

            {last}
            """);
        return
        [
            new Figure("MR, 10 folds: pretrained word vectors above random embeddings", "75.9-76.1 %, 80.5-81.5 %; at least 3 points, p < 0.05",
                FormattableString.Invariant($"{all.Average(r => r.Scratch):P1}, {all.Average(r => r.FromVectors):P1}; {byWords.Points:F1} points, p = {byWords.P:G2}"), byWords.Points >= GoalPoints && byWords.P < GoalP),
            new Figure("MR, 10 folds: fine-tuned above from scratch", "above, p < 0.05 (our own goal)",
                FormattableString.Invariant($"{all.Average(r => r.Scratch):P1}, {all.Average(r => r.Tuned):P1} after an epoch of labelled film reviews; {byReviews.Points:F1} points, p = {byReviews.P:G2}"), byReviews.Points > 0 && byReviews.P < GoalP),
        ];
    }

    private static Gap GapOf(List<FoldResult> folds, Func<FoldResult, double> accuracy)
    {
        double[] differences = [.. folds.Select(r => 100 * (accuracy(r) - r.Scratch))];
        var (t, p) = PairedTest.Of(differences);
        return new Gap(differences.Average(), t, p);
    }

    // Fold 0 is never tested here: its training sentences alone are divided once more.
    private static async Task<int> TuneAsync()
    {
        var sentences = MrData.Read(Machine.TestData);
        using var training = Training(sentences);
        await training.TakeVectorsAsync();
        Console.WriteLine(FormattableString.Invariant($"reviews {await training.PretrainAsync():P1}"));
        List<Sentence> known = [.. sentences.Where(s => s.Fold != 0)];
        List<Sentence> train = [.. known.Where(s => s.Fold > 3)];
        List<Sentence> test = [.. known.Where(s => s.Fold <= 3)];
        Console.WriteLine(FormattableString.Invariant($"naive Bayes {NaiveBayes.Classify(train, test).Average(r => r ? 1.0 : 0):P1}"));
        foreach (var few in new[] { false, true })
        {
            foreach (var basis in new[] { MrTraining.Reviews, MrTraining.Vectors, null })
            {
                foreach (var (rate, dropout) in new[] { (1e-3, 0.6), (3e-3, 0.4), (3e-3, 0.6), (6e-3, 0.6) })
                {
                    var right = training.Classify([.. train.Where(s => !few || s.IsAmongFew)], test, basis, Recipe.Classifying(few) with { LearningRate = rate, Dropout = dropout }, 1);
                    Console.WriteLine(FormattableString.Invariant($"{(few ? "a tenth" : "all labels")}, {basis ?? "from scratch"}, learning rate {rate}, dropout {dropout}: {right.Average(r => r ? 1.0 : 0):P1}"));
                }
            }
        }

        return 0;
    }

    /// <summary>By how much another beginning is better than new weights.</summary>
    /// <param name="Points">Percentage points, mean of the folds.</param>
    /// <param name="T">Student's t.</param>
    /// <param name="P">Probability that it is as far from 0 by chance.</param>
    private sealed record Gap(double Points, double T, double P);

    /// <summary>What a fold gave.</summary>
    /// <param name="Fold">Which.</param>
    /// <param name="Few">A tenth of the labels.</param>
    /// <param name="Count">Test sentences.</param>
    /// <param name="ScratchRight">Right ones from scratch.</param>
    /// <param name="VectorsRight">Right ones of the network with word vectors.</param>
    /// <param name="TunedRight">Right ones of the network that was trained on film reviews.</param>
    /// <param name="FloorRight">Right ones of naive Bayes.</param>
    /// <param name="Seconds">CPU time.</param>
    private sealed record FoldResult(int Fold, bool Few, int Count, int ScratchRight, int VectorsRight, int TunedRight, int FloorRight, double Seconds)
    {
        public double Scratch => (double)ScratchRight / Count;

        public double FromVectors => (double)VectorsRight / Count;

        public double Tuned => (double)TunedRight / Count;

        public double Floor => (double)FloorRight / Count;
    }
}
