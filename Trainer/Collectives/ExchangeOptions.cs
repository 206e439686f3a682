namespace LlmPipeline.Trainer.Collectives;

/// <summary>What the network between workers is like; section "Exchange".</summary>
internal sealed record ExchangeOptions
{
    /// <summary>Name of the configuration section.</summary>
    public const string Section = "Exchange";

    /// <summary>No window is smaller: a peer hears of what was read when a quarter is, and what is left then takes a whole message.</summary>
    public const int SmallestWindow = 2 * GradientStream.MaxMessageBytes;

    private const int LargestWindow = 256 * 1024 * 1024;

    /// <summary>Megabits a second that one stream may reach.</summary>
    public double BandwidthMbps { get; init; } = 10_000;

    /// <summary>Milliseconds to a peer and back.</summary>
    public double RoundTripMs { get; init; } = 1;

    /// <summary>Bytes that a peer may send before it hears from this side: twice what is on its way at full speed, 2 to 256 MiB.</summary>
    public int WindowBytes => (int)Math.Clamp(2 * BandwidthMbps * 1e6 / 8 * RoundTripMs / 1e3, SmallestWindow, LargestWindow);
}
