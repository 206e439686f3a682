using System.Globalization;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Runs.V1;
using Spectre.Console;

namespace LlmPipeline.Cli.Following;

/// <summary>What came of a run or an evaluation: the model, and the n-gram model beside it.</summary>
internal static class ResultTable
{
    /// <summary>The figures of a finished run, and where its model lies.</summary>
    public static void Write(Session session, Run run)
    {
        session.WriteLine();
        if (run.Evaluation is { } result)
        {
            var trained = run.Progress is { TrainSeconds: > 0 } progress ? progress.TokenCount / progress.TrainSeconds : (double?)null;
            var ngram = run.Spec?.Model?.Ngram;
            Write(session, result, ngram is null ? "network" : FormattableString.Invariant($"{ngram.Smoothing} {ngram.Order}-gram"), trained);
        }

        session.WriteLine($"Run          {run.Name}");
        if (run.Dataset.Length > 0)
        {
            session.WriteLine($"Dataset      {run.Dataset}");
        }

        var published = run.Spec?.Evaluation?.Checkpoint == "last" || run.BestCheckpoint.Length == 0 ? run.LatestCheckpoint : run.BestCheckpoint;
        if (published.Length > 0)
        {
            session.WriteLine($"Checkpoint   {published}");
        }

        if (run.ModelVersion.Length > 0)
        {
            session.WriteLine($"Model        {run.ModelVersion}{PathOf(session.Environment, run.ModelVersion)}");
        }

        if (run.TraceId.Length > 0)
        {
            session.WriteLine($"Trace        {run.TraceId}");
        }
    }

    /// <summary>The figures of an evaluation.</summary>
    /// <param name="session">Where to.</param>
    /// <param name="result">The figures.</param>
    /// <param name="model">What the model is.</param>
    /// <param name="trainingTokensPerSecond">Speed of the training, where there was one.</param>
    public static void Write(Session session, EvaluationResult result, string model = "model", double? trainingTokensPerSecond = null)
    {
        if (result.Classification is not null)
        {
            WriteClassification(session, result);
            return;
        }

        var table = NewTable(session);
        table.AddColumn($"{Markup.Escape(result.Split)} split");
        table.AddColumn(new TableColumn(Markup.Escape(model)).RightAligned());
        var ngram = result.Ngram;
        if (ngram is not null)
        {
            table.AddColumn(new TableColumn(FormattableString.Invariant($"Kneser-Ney {result.NgramOrder}-gram")).RightAligned());
        }

        var isMasked = result.Model?.Objective == "masked";
        Row(isMasked ? "loss (nats/masked token)" : "loss (nats/token)", q => Figure(q.Loss, "F4"));
        Row(isMasked ? "pseudo-perplexity" : "perplexity", q => Figure(q.Perplexity, "N2"));
        if (result.Model?.ImpossibleCount > 0)
        {
            Row("tokens of probability 0", q => Figure(q.ImpossibleCount, "N0"));
        }

        if (!isMasked)
        {
            Row("bits per byte", q => Figure(q.BitsPerByte, "F4"));
        }

        Row(isMasked ? "masked-token accuracy" : "next-token accuracy", q => Figure(q.Accuracy * 100, "F2") + " %");
        if (result.Model?.HasBleu == true || ngram?.HasBleu == true)
        {
            Row("BLEU of continuations", q => q.HasBleu ? Figure(q.Bleu, "F2") : "-");
        }

        if (trainingTokensPerSecond is { } speed)
        {
            Row("training tokens/s", q => ReferenceEquals(q, ngram) ? "-" : Figure(speed, "N0"));
        }

        Row("evaluation tokens/s", q => ReferenceEquals(q, ngram) ? "-" : Figure(result.TokensPerSecond, "N0"));
        Row(isMasked ? "masked tokens" : "tokens", q => Figure(q.TokenCount, "N0"));
        session.Environment.Console.Write(table);
        if (result.Forgetting is { } forgetting)
        {
            WriteForgetting(session, forgetting);
        }

        void Row(string title, Func<ModelQuality, string> figure)
        {
            string[] cells = ngram is null ? [title, figure(result.Model ?? new ModelQuality())] : [title, figure(result.Model ?? new ModelQuality()), figure(ngram)];
            table.AddRow(cells);
        }
    }

    private static Table NewTable(Session session) => new() { Border = session.Environment.IsTerminal ? TableBorder.Rounded : TableBorder.Ascii };

    private static void WriteClassification(Session session, EvaluationResult result)
    {
        var classification = result.Classification;
        var table = NewTable(session);
        foreach (var column in new[] { $"{result.Split} split", "documents", "precision", "recall", "F1" }.Concat(classification.Classes.Select(c => $"taken for {c.Label}")))
        {
            table.AddColumn(new TableColumn(Markup.Escape(column)).RightAligned());
        }

        foreach (var c in classification.Classes)
        {
            table.AddRow([.. new[] { c.Label, Figure(c.DocumentCount, "N0"), Share(c.Precision), Share(c.Recall), Share(c.F1) }
                .Concat(c.PredictedCounts.Select(n => Figure(n, "N0"))).Select(t => new Markup(Markup.Escape(t)))]);
        }

        session.Environment.Console.Write(table);
        session.WriteLine($"accuracy {Share(classification.Accuracy)}, macro F1 {Share(classification.MacroF1)}, loss {Figure(result.Model?.Loss ?? 0, "F4")} nats a document; "
            + $"always '{classification.MajorityLabel}' would be {Share(classification.MajorityAccuracy)}");
    }

    private static void WriteForgetting(Session session, Forgetting forgetting)
    {
        var table = NewTable(session);
        table.AddColumn("loss (perplexity)");
        table.AddColumn(new TableColumn("old dataset").RightAligned());
        table.AddColumn(new TableColumn("new dataset").RightAligned());
        table.AddRow("base", Cell(forgetting.BaseOld), Cell(forgetting.BaseNew));
        table.AddRow("fine-tuned", Cell(forgetting.ModelOld), Cell(forgetting.ModelNew));
        session.Environment.Console.Write(table);

        static string Cell(ModelQuality quality) => $"{Figure(quality.Loss, "F4")} ({Figure(quality.Perplexity, "N2")})";
    }

    private static string Share(double value) => Figure(value * 100, "F1") + " %";

    private static string Figure(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);

    // The launcher tells its quick start where the folder store is.
    private static string PathOf(CliEnvironment environment, string name) =>
        environment.Variable("ConnectionStrings__storage") is { } storage && storage.StartsWith("folder=", StringComparison.OrdinalIgnoreCase)
            ? $"  in {Path.Combine(storage["folder=".Length..], name)}"
            : "";
}
