using System.Globalization;
using System.Security;
using System.Text;

namespace LlmPipeline.Trainer.Coordinator.Reports;

/// <summary>A line of a chart.</summary>
/// <param name="Name">For the legend.</param>
/// <param name="Points">In order of x; what is not finite is left out.</param>
/// <param name="HasDots">Each point is marked.</param>
internal sealed record ChartSeries(string Name, IReadOnlyList<(double X, double Y)> Points, bool HasDots = false);

/// <summary>A line chart as SVG: axes, ticks, grid, legend; no script, no style from elsewhere.</summary>
internal sealed record SvgChart
{
    private const int Width = 760;
    private const int Height = 340;
    private const int Left = 70;
    private const int Right = 20;
    private const int Top = 46;
    private const int Bottom = 44;
    private const int MostPoints = 600;
    private const int MostTicks = 10;
    private static readonly string[] Colors = ["#2563eb", "#dc2626", "#059669", "#d97706"];

    /// <summary>Title.</summary>
    public required string Title { get; init; }

    /// <summary>Name and unit of the horizontal axis.</summary>
    public string XLabel { get; init; } = "step";

    /// <summary>Name and unit of the vertical axis.</summary>
    public required string YLabel { get; init; }

    /// <summary>The lines.</summary>
    public required IReadOnlyList<ChartSeries> Series { get; init; }

    /// <summary>A horizontal line to compare with; null for none.</summary>
    public (string Name, double Y)? Floor { get; init; }

    /// <summary>The vertical axis is logarithmic where all values are above 0.</summary>
    public bool IsLogarithmic { get; init; }

    /// <summary>The chart; one without a point says so.</summary>
    public string ToSvg()
    {
        var svg = new StringBuilder();
        svg.Append(CultureInfo.InvariantCulture, $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{Width}\" height=\"{Height}\" viewBox=\"0 0 {Width} {Height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#374151\">\n");
        svg.Append(CultureInfo.InvariantCulture, $"<rect width=\"{Width}\" height=\"{Height}\" fill=\"#ffffff\"/>\n<text x=\"{Left}\" y=\"18\" font-size=\"14\" font-weight=\"600\">{Text(Title)}</text>\n");
        var series = Series.Select(s => s with { Points = Thin([.. s.Points.Where(p => double.IsFinite(p.X) && double.IsFinite(p.Y))]) }).Where(s => s.Points.Count > 0).ToList();
        if (series.Count == 0)
        {
            return svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{Left}\" y=\"{Height / 2}\">no steps</text>\n</svg>\n").ToString();
        }

        var ys = series.SelectMany(s => s.Points.Select(p => p.Y)).Concat(Floor is { } floor ? [floor.Y] : Array.Empty<double>()).ToList();
        var logarithmic = IsLogarithmic && ys.All(y => y > 0);
        var x = Scale(series.Min(s => s.Points[0].X), series.Max(s => s.Points[^1].X));
        var y = Scale(ys.Min(), ys.Max(), logarithmic);
        Axes(svg, x, y, logarithmic);
        for (var i = 0; i < series.Count; i++)
        {
            Line(svg, series[i], Colors[i % Colors.Length]);
        }

        if (Floor is { } line)
        {
            var at = Y(line.Y);
            svg.Append(CultureInfo.InvariantCulture, $"<line x1=\"{Left}\" y1=\"{at:F1}\" x2=\"{Width - Right}\" y2=\"{at:F1}\" stroke=\"#6b7280\" stroke-dasharray=\"6 4\"/>\n");
        }

        Legend(svg, series);
        return svg.Append("</svg>\n").ToString();

        double X(double value) => Left + ((value - x.Least) / (x.Most - x.Least) * (Width - Left - Right));

        double Y(double value) => Height - Bottom - (((logarithmic ? Math.Log10(value) : value) - y.Least) / (y.Most - y.Least) * (Height - Top - Bottom));

        void Line(StringBuilder to, ChartSeries of, string color)
        {
            var points = string.Join(' ', of.Points.Select(p => string.Create(CultureInfo.InvariantCulture, $"{X(p.X):F1},{Y(p.Y):F1}")));
            to.Append(CultureInfo.InvariantCulture, $"<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\" stroke-linejoin=\"round\"/>\n");
            foreach (var (px, py) in of.HasDots || of.Points.Count == 1 ? of.Points : [])
            {
                to.Append(CultureInfo.InvariantCulture, $"<circle cx=\"{X(px):F1}\" cy=\"{Y(py):F1}\" r=\"3\" fill=\"{color}\"/>\n");
            }
        }
    }

    private void Axes(StringBuilder svg, in AxisScale x, in AxisScale y, bool logarithmic)
    {
        foreach (var (tick, share) in y.Ticks())
        {
            var at = Height - Bottom - (share * (Height - Top - Bottom));
            svg.Append(CultureInfo.InvariantCulture, $"<line x1=\"{Left}\" y1=\"{at:F1}\" x2=\"{Width - Right}\" y2=\"{at:F1}\" stroke=\"#e5e7eb\"/>\n");
            svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{Left - 6}\" y=\"{at + 4:F1}\" text-anchor=\"end\">{Number(logarithmic ? Math.Pow(10, tick) : tick)}</text>\n");
        }

        foreach (var (tick, share) in x.Ticks())
        {
            var at = Left + (share * (Width - Left - Right));
            svg.Append(CultureInfo.InvariantCulture, $"<line x1=\"{at:F1}\" y1=\"{Height - Bottom}\" x2=\"{at:F1}\" y2=\"{Height - Bottom + 4}\" stroke=\"#6b7280\"/>\n");
            svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{at:F1}\" y=\"{Height - Bottom + 18}\" text-anchor=\"middle\">{Number(tick)}</text>\n");
        }

        svg.Append(CultureInfo.InvariantCulture, $"<line x1=\"{Left}\" y1=\"{Height - Bottom}\" x2=\"{Width - Right}\" y2=\"{Height - Bottom}\" stroke=\"#6b7280\"/>\n");
        svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{Width - Right}\" y=\"{Height - 8}\" text-anchor=\"end\">{Text(XLabel)}</text>\n<text x=\"{Left - 50}\" y=\"{Top - 12}\">{Text(YLabel)}</text>\n");
    }

    private void Legend(StringBuilder svg, List<ChartSeries> series)
    {
        var entries = series.Select((s, i) => (s.Name, Color: Colors[i % Colors.Length])).Concat(Floor is { } floor ? [(floor.Name, "#6b7280")] : Array.Empty<(string, string)>());
        var at = Width - Right;
        foreach (var (name, color) in entries.Reverse())
        {
            svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{at}\" y=\"{Top - 12}\" text-anchor=\"end\">{Text(name)}</text>\n");
            at -= (name.Length * 7) + 8;
            svg.Append(CultureInfo.InvariantCulture, $"<rect x=\"{at - 8}\" y=\"{Top - 20}\" width=\"10\" height=\"3\" fill=\"{color}\"/>\n");
            at -= 24;
        }
    }

    /// <summary>An axis for values; those that differ by rounding alone, as means of equal ones do, are one.</summary>
    private static AxisScale Scale(double least, double most, bool logarithmic = false)
    {
        var isOne = most - least <= 1e-9 * Math.Max(Math.Abs(least), Math.Abs(most));
        if (logarithmic)
        {
            (least, most) = (Math.Log10(least), Math.Log10(most));
        }

        var margin = isOne ? Math.Max(1e-9, Math.Abs(most) * 0.1) : (most - least) * 0.03;
        return new AxisScale(isOne ? least - margin : least, most + margin);
    }

    /// <summary>Means of neighbours, so that a long run is no larger than a short one.</summary>
    private static IReadOnlyList<(double X, double Y)> Thin(IReadOnlyList<(double X, double Y)> points)
    {
        var size = (points.Count + MostPoints - 1) / MostPoints;
        return size <= 1 ? points : [.. points.Chunk(size).Select(c => (c.Average(p => p.X), c.Average(p => p.Y)))];
    }

    private static string Number(double value) => Math.Abs(value) is >= 1e5 or (> 0 and < 1e-3)
        ? value.ToString("0.##e+0", CultureInfo.InvariantCulture)
        : value.ToString("0.####", CultureInfo.InvariantCulture);

    private static string Text(string text) => SecurityElement.Escape(text);

    private readonly record struct AxisScale(double Least, double Most)
    {
        /// <summary>Round numbers, and their shares of the axis.</summary>
        public IEnumerable<(double Value, double Share)> Ticks()
        {
            var range = Most - Least;
            var rough = range / 6;
            var power = Math.Pow(10, Math.Floor(Math.Log10(rough)));
            var step = power * ((rough / power) switch { <= 1 => 1, <= 2 => 2, <= 5 => 5, _ => 10 });
            var first = Math.Ceiling(Least / step);
            for (var i = 0; i < MostTicks && (first + i) * step <= Most; i++)
            {
                var tick = (first + i) * step;
                yield return (tick, (tick - Least) / range);
            }
        }
    }
}
