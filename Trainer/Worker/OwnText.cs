using LlmPipeline.ServiceDefaults;
using LlmPipeline.Text;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Trainer.Worker;

/// <summary>The text of a worker's own, in ids of a run's tokenizer. Used by the compute thread.</summary>
/// <param name="folder"><see cref="WorkerOptions.Dataset"/>.</param>
internal sealed class OwnText(string? folder)
{
    private FolderTokens? _tokens;
    private string? _dataset;

    /// <summary>Reads it, or what was read before for the same dataset.</summary>
    /// <param name="dataset">Gives the tokenizer.</param>
    /// <param name="context">Tokens of a sequence.</param>
    /// <param name="cancellationToken">The process exits.</param>
    /// <exception cref="FatalTrainingException">There is none that could be trained on; the message says what is missing.</exception>
    public TokenSplit Open(TrainingDataset dataset, int context, CancellationToken cancellationToken)
    {
        if (dataset.Labels is not null)
        {
            throw Invalid("but the run learns classes of documents, which text of a worker's own does not have. Set it to false");
        }

        if (string.IsNullOrWhiteSpace(folder))
        {
            throw Invalid($"but the worker on {Environment.MachineName} has no text of its own. Set Worker:Dataset to a folder there, or stop that worker");
        }

        if (_tokens is null || _dataset != dataset.Name)
        {
            try
            {
                _tokens = FolderTokens.ReadAsync(folder, TokenizerFile.Parse(dataset.TokenizerJson), cancellationToken).GetAwaiter().GetResult();
                _dataset = dataset.Name;
            }
            catch (TextSourceException exception)
            {
                throw Invalid($"but the text of the worker on {Environment.MachineName} (Worker:Dataset) cannot be read: {exception.Message.TrimEnd('.')}", exception);
            }
        }

        return _tokens.TokenCount > context ? _tokens
            : throw Invalid($"but the text of the worker on {Environment.MachineName} (Worker:Dataset) has {_tokens.TokenCount} tokens, and a sequence {context + 1}. Give it more text, or make model.context smaller");
    }

    private static FatalTrainingException Invalid(string problem, Exception? inner = null) =>
        new(ErrorReasons.InvalidSpec, $"training.local.own_data is true, {problem}.", inner);
}
