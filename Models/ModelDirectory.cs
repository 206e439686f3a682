using LlmPipeline.Storage;
using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>Model directories in the Hugging Face layout: <c>config.json</c>, <c>model.safetensors</c>, <c>tokenizer.json</c>, <c>generation_config.json</c>.</summary>
public static class ModelDirectory
{
    /// <summary>Writes the four files through a directory writer; the caller may add files and commits.</summary>
    public static Task WriteAsync(DirectoryWriter directory, LanguageModel model, string tokenizerJson, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();

    /// <summary>Loads a model from a local folder, written by this project or by another implementation of the same layout.</summary>
    /// <exception cref="InvalidDataException">A file is missing or wrong; the message names file, tensor and what was expected.</exception>
    public static LanguageModel Load(string folder, torch.Device device) => throw new NotImplementedException();
}
