using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Google.Protobuf;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator.Reports;

/// <summary>
/// What there is to say of a run, from its record and the numbers of its steps: <c>report.md</c>, <c>report.json</c> and curves as
/// SVG. Of a run that failed or was cancelled, as far as it came.
/// </summary>
/// <param name="run">Its record.</param>
/// <param name="steps">Its steps, in order.</param>
internal sealed class RunReport(Run run, IReadOnlyList<StepMetrics> steps)
{
    /// <summary>The report for a person.</summary>
    public const string MarkdownFile = "report.md";

    /// <summary>The report for a program.</summary>
    public const string JsonFile = "report.json";

    private const int MostSteps = 2000;
    private const string Format = "llmpipeline-run-report-1";
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, NewLine = "\n" };
    private static readonly JsonFormatter Formatter = new(JsonFormatter.Settings.Default.WithPreserveProtoFieldNames(true));

    /// <summary>Validated steps.</summary>
    public IReadOnlyList<StepMetrics> Validations { get; } = [.. steps.Where(s => s.HasValidationLoss)];

    /// <summary>Steps that changed nothing.</summary>
    public IReadOnlyList<StepMetrics> Anomalies { get; } = [.. steps.Where(s => s.Anomaly.Length > 0)];

    /// <summary>Names of phases and the seconds spent on each.</summary>
    public IReadOnlyList<(string Name, double Seconds)> Phases { get; } =
    [
        Sum("data", steps, p => p.Data), Sum("forward and backward", steps, p => p.ForwardBackward), Sum("exchange", steps, p => p.Exchange),
        Sum("optimizer", steps, p => p.Optimizer), Sum("validation", steps, p => p.Validation), Sum("checkpoint", steps, p => p.Checkpoint), Sum("other", steps, p => p.Other),
    ];

    /// <summary>Files of the curves: path, title, SVG.</summary>
    public IReadOnlyList<(string Path, string Title, string Svg)> Curves()
    {
        var ngram = run.Evaluation?.Ngram is { } quality && double.IsFinite(quality.Loss) ? ($"{run.Evaluation.NgramOrder}-gram", quality.Loss) : ((string, double)?)null;
        return
        [
            Curve("loss", new SvgChart
            {
                Title = "Loss", YLabel = run.Evaluation is { } measured ? LossUnit.Of(measured) : LossUnit.Of(run), Floor = ngram,
                Series = [new("train", Points(s => s.TrainLoss)), new("validation", [.. Validations.Select(s => ((double)s.Step, s.ValidationLoss))], HasDots: true)],
            }),
            Curve("learning_rate", new SvgChart { Title = "Learning rate", YLabel = "per step", Series = [new("learning rate", Points(s => s.LearningRate))] }),
            Curve("gradient_norm", new SvgChart { Title = "Gradient norm, before clipping", YLabel = "norm", IsLogarithmic = true, Series = [new("norm", Points(s => s.GradientNorm))] }),
            Curve("tokens_per_second", new SvgChart { Title = "Speed, over all workers", YLabel = "tokens/s", Series = [new("tokens/s", Points(s => s.TokensPerSecond))] }),
        ];

        static (string, string, string) Curve(string name, SvgChart chart) => ($"curves/{name}.svg", chart.Title, chart.ToSvg());
    }

    /// <summary>All files.</summary>
    public IReadOnlyList<ReportFile> Files()
    {
        var curves = Curves();
        return
        [
            new() { Path = MarkdownFile, Text = RunReportMarkdown.Write(run, steps, this, curves) },
            new() { Path = JsonFile, Text = ToJson() },
            .. curves.Select(c => new ReportFile { Path = c.Path, Text = c.Svg }),
        ];
    }

    /// <summary>Where and with what the run was trained: name and value.</summary>
    public static IReadOnlyList<(string Name, string Value)> Environments(Run run) =>
    [
        .. run.Workers.Select(w => ($"worker {w.Rank}", w.Fingerprint.Length > 0 ? $"{w.WorkerId} on {w.Device}: {w.Fingerprint}" : $"{w.WorkerId} on {w.Device}")),
        ("coordinator", $"{RuntimeInformation.OSDescription.Trim()}, {Environment.ProcessorCount} cores"),
        ("runtime", RuntimeInformation.FrameworkDescription),
        ("version", typeof(RunReport).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown"),
    ];

    private string ToJson()
    {
        var json = new JsonObject
        {
            ["format"] = Format,
            ["run"] = Node(run),
            ["phases_seconds"] = new JsonObject([.. Phases.Select(p => KeyValuePair.Create<string, JsonNode?>(p.Name.Replace(' ', '_'), JsonValue.Create(p.Seconds)))]),
            ["environment"] = new JsonObject([.. Environments(run).Select(e => KeyValuePair.Create<string, JsonNode?>(e.Name, JsonValue.Create(e.Value)))]),
            ["steps"] = new JsonArray([.. Thin().Select(Node)]),
        };
        return json.ToJsonString(Indented) + "\n";
    }

    /// <summary>Steps to tell of one by one: at most about <see cref="MostSteps"/>, and all that were validated or anomalies.</summary>
    private IEnumerable<StepMetrics> Thin()
    {
        var every = (steps.Count + MostSteps - 1) / MostSteps;
        return steps.Where((s, i) => i % every == 0 || s.HasValidationLoss || s.Anomaly.Length > 0);
    }

    private static JsonNode? Node(IMessage message) => JsonNode.Parse(Formatter.Format(message));

    private (double X, double Y)[] Points(Func<StepMetrics, double> value) => [.. steps.Select(s => ((double)s.Step, value(s)))];

    private static (string, double) Sum(string name, IReadOnlyList<StepMetrics> steps, Func<StepPhases, double> of) => (name, steps.Sum(s => s.Phases is { } phases ? of(phases) : 0));
}
