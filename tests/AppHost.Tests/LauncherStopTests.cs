using System.Globalization;
using System.Runtime.Versioning;

namespace LlmPipeline.AppHost.Tests;

[SupportedOSPlatform("linux")]
public sealed class LauncherStopTests
{
    private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(10);

    [Theory]
    [InlineData("INT")]
    [InlineData("TERM")]
    public async Task NothingIsLeftAfterTenSecondsEvenOfProcessesThatIgnoreSignals(string signal)
    {
        await using var launcher = await LauncherProcess.StartAsync(
            "--tree=true", "--store-arguments=--Fake:IgnoreSignals=true", "--back-arguments=--Fake:IgnoreSignals=true", "--front-arguments=--Fake:IgnoreSignals=true");
        var ids = await Task.WhenAll(LauncherProcess.Services.Select(launcher.IdOfAsync));
        var grandchild = IdIn(await launcher.WaitForLineAsync("| child "));

        launcher.Signal(signal);
        var duration = await launcher.WaitForExitAsync();

        Assert.InRange(duration, TimeSpan.Zero, StopLimit);
        Assert.All([.. ids, grandchild], id => Assert.False(LauncherProcess.IsRunning(id), $"process {id} is left"));
        Assert.DoesNotContain(launcher.Lines, line => line.Contains("ended unexpectedly", StringComparison.Ordinal));
    }

    [Fact]
    public async Task EverythingEndsWithinTenSecondsWhenTheLauncherIsKilled()
    {
        await using var launcher = await LauncherProcess.StartAsync("--front-arguments=--Fake:IgnoreSignals=true", "--plain=true");
        var services = await Task.WhenAll(LauncherProcess.Services.Select(launcher.IdOfAsync));
        int[] ids = [.. services, IdIn(await launcher.WaitForLineAsync("| plain "))];

        launcher.Signal("KILL");

        using var limit = new CancellationTokenSource(StopLimit);
        foreach (var id in ids)
        {
            await WaitForEndAsync(id, limit.Token);
        }
    }

    private static int IdIn(string line) => int.Parse(line[(line.LastIndexOf(' ') + 1)..], CultureInfo.InvariantCulture);

    private static async Task WaitForEndAsync(int id, CancellationToken limit)
    {
        while (LauncherProcess.IsRunning(id))
        {
            await Task.Delay(50, limit);
        }
    }
}
