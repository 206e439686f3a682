namespace LlmPipeline.Text.Cleaning;

/// <summary>Sets of numbers that are joined (Tarjan 1975, with path halving); a set is named by its smallest member.</summary>
/// <param name="parents">The numbers 0, 1, 2, ...; becomes this object's.</param>
internal sealed class DisjointSets(int[] parents)
{
    public int Count => parents.Length;

    /// <summary>The smallest member of a number's set.</summary>
    public int First(int number)
    {
        while (parents[number] != number)
        {
            parents[number] = parents[parents[number]];
            number = parents[number];
        }

        return number;
    }

    public void Join(int left, int right)
    {
        var (l, r) = (First(left), First(right));
        parents[Math.Max(l, r)] = Math.Min(l, r);
    }
}
