namespace LlmPipeline.Bench.Mr;

/// <summary>Student's t-test of paired differences.</summary>
internal static class PairedTest
{
    /// <summary>Two-sided p of the differences having mean 0.</summary>
    public static (double T, double P) Of(IReadOnlyList<double> differences)
    {
        var n = differences.Count;
        var mean = differences.Average();
        var deviation = Math.Sqrt(differences.Sum(d => (d - mean) * (d - mean)) / (n - 1));
        var t = mean / (deviation / Math.Sqrt(n));
        return (t, TwoSided(Math.Abs(t), n - 1));
    }

    /// <summary>1 minus the probability of Student's t within -t and t: the density, integrated by Simpson's rule.</summary>
    private static double TwoSided(double t, int freedom)
    {
        const int Intervals = 20_000;
        var scale = Math.Exp(LogGamma((freedom + 1) / 2.0) - LogGamma(freedom / 2.0)) / Math.Sqrt(freedom * Math.PI);
        double Density(double x) => scale * Math.Pow(1 + (x * x / freedom), -(freedom + 1) / 2.0);
        var (width, sum) = (t / Intervals, Density(0) + Density(t));
        for (var i = 1; i < Intervals; i++)
        {
            sum += (i % 2 == 1 ? 4 : 2) * Density(i * width);
        }

        return Math.Max(0, 1 - (2 * sum * width / 3));
    }

    // Halves and whole numbers only: from Gamma(1/2) = sqrt(pi), Gamma(1) = 1 upwards.
    private static double LogGamma(double x)
    {
        var log = x % 1 == 0 ? 0 : Math.Log(Math.PI) / 2;
        for (var y = x % 1 == 0 ? 1 : 0.5; y < x; y++)
        {
            log += Math.Log(y);
        }

        return log;
    }
}
