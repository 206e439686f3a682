using LlmPipeline.Datasets.V1;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Preprocessor;

/// <summary>The source files of a spec.</summary>
internal static class DatasetSources
{
    /// <summary>Files of all parts, in order.</summary>
    /// <exception cref="TextSourceException">A source names nothing that can be read.</exception>
    public static async Task<IReadOnlyCollection<SourceFile>> FindAsync(DatasetSpec spec, SourceOptions options, CancellationToken cancellationToken)
    {
        if (spec.Mixture.Count == 0)
        {
            return await SourceFiles.FindAsync(spec.Sources, options, cancellationToken);
        }

        var files = new List<IReadOnlyList<SourceFile>>();
        foreach (var part in spec.Mixture)
        {
            files.Add(await SourceFiles.FindAsync(part.Sources, options, cancellationToken));
        }

        return new Joined(files);
    }

    // Lists of millions of files make their entries when they are asked for.
    private sealed class Joined(List<IReadOnlyList<SourceFile>> lists) : IReadOnlyCollection<SourceFile>
    {
        public int Count => lists.Sum(l => l.Count);

        public IEnumerator<SourceFile> GetEnumerator() => lists.SelectMany(l => l).GetEnumerator();

        System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
