using System.Runtime.ExceptionServices;

namespace LlmPipeline.Text.NGrams;

/// <summary>Work over a range of numbers, on all cores, in pieces whose number does not depend on how many cores there are.</summary>
internal static class ParallelRanges
{
    private const int SmallestPiece = 1 << 12;
    private const int MostPieces = 256;

    /// <summary>Runs an action over pieces of a range.</summary>
    public static void Run(int begin, int end, Action<int, int> action, CancellationToken cancellationToken)
    {
        var bounds = Cut(begin, end);
        Run(bounds.Length - 1, piece => action(bounds[piece], bounds[piece + 1]), cancellationToken);
    }

    /// <summary>Runs an action for each number below a count.</summary>
    public static void Run(int count, Action<int> action, CancellationToken cancellationToken)
    {
        try
        {
            Parallel.For(0, count, new ParallelOptions { CancellationToken = cancellationToken }, action);
        }
        catch (AggregateException exception)
        {
            ExceptionDispatchInfo.Throw(exception.InnerExceptions[0]);
        }
    }

    /// <summary>The bounds of the pieces of a range.</summary>
    public static int[] Cut(int begin, int end)
    {
        var pieces = (int)Math.Clamp(((long)end - begin) / SmallestPiece, 1, MostPieces);
        return [.. Enumerable.Range(0, pieces + 1).Select(i => (int)(begin + (((long)end - begin) * i / pieces)))];
    }
}
