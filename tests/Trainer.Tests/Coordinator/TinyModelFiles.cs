using LlmPipeline.Fakes;
using LlmPipeline.Models;
using LlmPipeline.Storage;

namespace LlmPipeline.Trainer.Tests.Coordinator;

/// <summary>The files of a real, tiny network, written once.</summary>
internal static class TinyModelFiles
{
    public static readonly Lazy<IReadOnlyDictionary<string, byte[]>> All = new(() =>
    {
        using var folder = new TemporaryFolder();
        using var replica = TinyRun.NewReplica(TinyRun.Spec());
        var store = BlobStore.Open($"folder={folder.Path}");
        var directory = store.CreateDirectory("models/tiny");
        ModelDirectory.WriteAsync(directory, replica.Model, "{}").GetAwaiter().GetResult();
        ParameterCount = replica.Model.Parameters.Views.Sum(v => (long)v.Length);
        return Directory.EnumerateFiles(Path.Combine(folder.Path, "models/tiny")).ToDictionary(f => Path.GetFileName(f), File.ReadAllBytes);
    });

    public static long ParameterCount { get; private set; }
}
