using System.Diagnostics;
using System.Diagnostics.Metrics;
using LlmPipeline.Text.Building;

namespace LlmPipeline.Preprocessor;

/// <summary>Spans and metrics of the service.</summary>
internal sealed class PreprocessorTelemetry : IDisposable
{
    public const string Name = "LlmPipeline.Preprocessor";

    private readonly ActivitySource _source = new(Name);
    private readonly Counter<long> _documents;
    private readonly Counter<long> _bytes;
    private readonly Counter<long> _tokens;
    private readonly UpDownCounter<int> _queued;
    private int _queueLength;

    public PreprocessorTelemetry(IMeterFactory meters)
    {
        var meter = meters.Create(Name);
        _documents = meter.CreateCounter<long>("llmpipeline.dataset.documents", "{document}", "Documents read.");
        _bytes = meter.CreateCounter<long>("llmpipeline.dataset.bytes", "By", "Bytes of source files read.");
        _tokens = meter.CreateCounter<long>("llmpipeline.dataset.tokens", "{token}", "Tokens written.");
        _queued = meter.CreateUpDownCounter<int>("llmpipeline.dataset.queue.length", "{dataset}", "Datasets that wait or are in work.");
    }

    /// <summary>The span of a whole dataset, a child of the call that created it.</summary>
    public Activity? StartDataset(string name, string traceparent)
    {
        var parent = ActivityContext.TryParse(traceparent, null, isRemote: true, out var context) ? context : default;
        return _source.StartActivity("dataset create", ActivityKind.Internal, parent)?.SetTag("llmpipeline.dataset", name);
    }

    /// <summary>The span of a stage.</summary>
    public Activity? StartStage(BuildStage stage, string name) => _source.StartActivity(stage switch
    {
        BuildStage.Reading => "read",
        BuildStage.TrainingTokenizer => "tokenizer train",
        _ => "tokenize",
    })?.SetTag("llmpipeline.dataset", name);

    /// <summary>Datasets that are not finished.</summary>
    public void SetQueueLength(int length)
    {
        if (length != _queueLength)
        {
            _queued.Add(length - _queueLength);
            _queueLength = length;
        }
    }

    /// <summary>Counts what was done since the last call.</summary>
    public void Count(long documents, long bytes, long tokens)
    {
        _documents.Add(documents);
        _bytes.Add(bytes);
        _tokens.Add(tokens);
    }

    public void Dispose() => _source.Dispose();
}
