using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Preprocessor;

/// <summary>What a person is told about a dataset that could not be made.</summary>
internal static class DatasetErrors
{
    public static string ReasonOf(TextSourceProblem problem) => problem switch
    {
        TextSourceProblem.NotFound => ErrorReasons.SourceNotFound,
        TextSourceProblem.Empty => ErrorReasons.SourceEmpty,
        _ => ErrorReasons.InvalidText,
    };

    /// <summary>The error of a record; null when the cause is none that a caller can mend, and the log has to say more.</summary>
    public static DatasetError? From(Exception exception) => exception switch
    {
        TextSourceException source => Error(ReasonOf(source.Problem), source.Message),
        BlobNotFoundException missing => Error(ErrorReasons.NotFound, missing.Message),
        CorruptDirectoryException corrupt => Error(ErrorReasons.CorruptData, corrupt.Message),
        InvalidDataException text => Error(ErrorReasons.InvalidText, text.Message),
        OutOfMemoryException => Error(ErrorReasons.OutOfMemory, "There is too little memory for this dataset. Lower Preprocessor:Parallelism, or set spec.max_bytes."),
        UnauthorizedAccessException or IOException => Error(ErrorReasons.Internal,
            $"{exception.Message} Check the space and the rights of the storage and of Preprocessor:ScratchFolder, then create the dataset again."),
        _ => null,
    };

    public static DatasetError Error(string reason, string message) => new() { Reason = reason, Message = message };
}
