using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace LlmPipeline.Models.Networks;

/// <summary>Random orthogonal matrices (Saxe et al. 2014): a product with one keeps the length of a state, however often it is repeated.</summary>
internal static class Orthogonal
{
    private const int Lanes = 8;

    /// <summary>
    /// Fills a square matrix: normally distributed rows, each made orthogonal to those before and of length 1 (Gram-Schmidt in float64).
    /// The same bits on every machine.
    /// </summary>
    /// <param name="values">side * side numbers, row by row.</param>
    /// <param name="side">Rows, and columns.</param>
    /// <param name="seed">Seed.</param>
    public static void Fill(Span<float> values, int side, ulong seed)
    {
        ParameterLayout.FillNormal(values, 1, seed);

        // Rows are padded with 0 to whole vectors.
        var stride = (side + Lanes - 1) / Lanes * Lanes;
        var rows = new double[side * stride];
        for (var i = 0; i < side; i++)
        {
            var row = rows.AsSpan(i * stride, stride);
            for (var j = 0; j < side; j++)
            {
                row[j] = values[(i * side) + j];
            }

            for (var k = 0; k < i; k++)
            {
                var before = rows.AsSpan(k * stride, stride);
                AddScaled(row, before, -Dot(row, before));
            }

            var scale = 1 / Math.Sqrt(Dot(row, row));
            for (var j = 0; j < side; j++)
            {
                row[j] *= scale;
                values[(i * side) + j] = (float)row[j];
            }
        }
    }

    private static double Dot(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        var x = MemoryMarshal.Cast<double, Vector512<double>>(a);
        var y = MemoryMarshal.Cast<double, Vector512<double>>(b);
        var sums = Vector512<double>.Zero;
        for (var i = 0; i < x.Length; i++)
        {
            sums += x[i] * y[i];
        }

        var total = 0.0;
        for (var lane = 0; lane < Lanes; lane++)
        {
            total += sums[lane];
        }

        return total;
    }

    private static void AddScaled(Span<double> to, ReadOnlySpan<double> from, double factor)
    {
        var x = MemoryMarshal.Cast<double, Vector512<double>>(to);
        var y = MemoryMarshal.Cast<double, Vector512<double>>(from);
        for (var i = 0; i < x.Length; i++)
        {
            x[i] += y[i] * factor;
        }
    }
}
