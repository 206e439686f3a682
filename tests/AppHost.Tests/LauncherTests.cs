using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Runtime.Versioning;

namespace LlmPipeline.AppHost.Tests;

[SupportedOSPlatform("linux")]
public sealed class LauncherTests
{
    [Fact]
    public async Task ServicesStartInOrderWhenTheOthersAreHealthyAndStopInReverse()
    {
        await using var launcher = await LauncherProcess.StartAsync("--store-arguments=--Fake:ReadyAfterSeconds=1.5");
        var startTimes = await Task.WhenAll(LauncherProcess.Services.Select(StartTimeAsync));
        launcher.Signal("TERM");
        await launcher.WaitForExitAsync();

        Assert.True(startTimes[1] - startTimes[0] > TimeSpan.FromSeconds(1.5), "back did not wait until store was healthy");
        Assert.True(startTimes[2] > startTimes[1]);
        var stops = LauncherProcess.Services.Select(service => launcher.IndexOf($"{service,-5} | info: Microsoft.Hosting.Lifetime[0] Application is shutting")).ToArray();
        Assert.DoesNotContain(-1, stops);
        Assert.True(stops[0] > stops[1] && stops[1] > stops[2]);
        Assert.Equal(0, launcher.ExitCode);

        async Task<DateTime> StartTimeAsync(string service) => Process.GetProcessById(await launcher.IdOfAsync(service)).StartTime;
    }

    [Fact]
    public async Task ServicesGetTheEnvironmentThatAspireGivesThem()
    {
        await using var launcher = await LauncherProcess.StartAsync();

        var back = await launcher.EnvironmentOfAsync("back");

        Assert.Equal("folder=somewhere", back["ConnectionStrings__storage"]);
        Assert.Equal((await launcher.AddressOfAsync("back")).ToString().TrimEnd('/'), back["ASPNETCORE_URLS"]);
        Assert.Equal($"http://localhost:{(await launcher.EnvironmentOfAsync("store"))["GRPC_PORT"]}", back["Store__Endpoint"]);
        Assert.Equal("back", back["OTEL_SERVICE_NAME"]);
        Assert.StartsWith("service.instance.id=", back["OTEL_RESOURCE_ATTRIBUTES"], StringComparison.Ordinal);
        Assert.Equal("Development", back["ASPNETCORE_ENVIRONMENT"]);
        Assert.Equal("http", back["DOTNET_LAUNCH_PROFILE"]);
        Assert.Single(launcher.Lines, line => line.StartsWith("  front http  http://localhost:", StringComparison.Ordinal));
    }

    [Fact]
    public async Task APortInUseIsNamedBeforeAnythingStarts()
    {
        using var occupant = new TcpListener(IPAddress.Loopback, 0);
        occupant.Start();
        var port = ((IPEndPoint)occupant.LocalEndpoint).Port;

        await using var launcher = new LauncherProcess([$"--front-port={port}"]);
        await launcher.WaitForExitAsync();

        Assert.Equal(1, launcher.ExitCode);
        var line = Assert.Single(launcher.Lines);
        Assert.StartsWith($"Port {port} is in use, and front needs it (http).", line, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ACrashedServiceIsReportedAndStartedAgain()
    {
        await using var launcher = await LauncherProcess.StartAsync("--Launcher:RestartDelaySeconds=0.1");
        var before = await launcher.IdOfAsync("back");
        var others = (await launcher.IdOfAsync("store"), await launcher.IdOfAsync("front"));

        await launcher.CrashAsync("back");

        await launcher.WaitForLineAsync("back ended unexpectedly, with exit code 7. Its last lines:");
        await launcher.WaitForLineAsync("    last words");
        await launcher.WaitForLineAsync("Starting back again.");
        await launcher.WaitForLinesAsync("back  | info: Microsoft.Hosting.Lifetime[0] Application started", 2);
        Assert.NotEqual(before, await launcher.IdOfAsync("back"));
        Assert.Equal(others, (await launcher.IdOfAsync("store"), await launcher.IdOfAsync("front")));
    }

    [Fact]
    public async Task AServiceThatNeverStartsEndsTheApplicationAfterSomeTries()
    {
        await using var launcher = new LauncherProcess(
            ["--store-arguments=--exit,3", "--Launcher:MaxRestarts=2", "--Launcher:RestartDelaySeconds=0.05"]);
        await launcher.WaitForExitAsync();

        Assert.Equal(1, launcher.ExitCode);
        Assert.Contains("store ended 3 times in a row and is not started again.", launcher.Lines);
        Assert.DoesNotContain(launcher.Lines, line => line.StartsWith("back", StringComparison.Ordinal));
    }

    [Fact]
    public async Task ATaskWritesToTheLaunchersConsoleAndItsSuccessLeavesTheServicesRunning()
    {
        await using var launcher = new LauncherProcess(["--quickstart=true"]);
        await launcher.WaitForLineAsync("the result of a short program");

        Assert.Contains("the result of a short program", launcher.Lines);
        Assert.DoesNotContain(launcher.Lines, line => line.Contains("info:", StringComparison.Ordinal));
        launcher.Signal("INT");
        await launcher.WaitForExitAsync();
        Assert.Equal(0, launcher.ExitCode);
    }

    [Fact]
    public async Task ATaskThatFailsStopsEverythingWithItsExitCode()
    {
        await using var launcher = new LauncherProcess(["--quickstart=true", "--exit=4"]);
        await launcher.WaitForExitAsync();

        Assert.Equal(4, launcher.ExitCode);
        Assert.Contains(launcher.Lines, line => line.StartsWith("quickstart failed with exit code 4", StringComparison.Ordinal));
    }

    [Fact]
    public async Task TelemetryGoesWhereTheUserSays()
    {
        await using var launcher = new LauncherProcess(["--verbose=true"], [new("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:9")]);

        await launcher.WaitForLineAsync("  telemetry goes to http://localhost:9");
        await launcher.WaitForLineAsync("All services are ready");
        Assert.Equal("http://localhost:9", (await launcher.EnvironmentOfAsync("front"))["OTEL_EXPORTER_OTLP_ENDPOINT"]);
    }

    [Fact]
    public async Task TelemetryGoesToTheDashboardWhereTheAspireCliIsInstalled()
    {
        var folder = Directory.CreateTempSubdirectory("llmpipeline-cli-");
        var cli = Path.Combine(folder.FullName, "aspire");
        await File.WriteAllTextAsync(cli, "#!/bin/sh\necho $$ \"$@\" > \"$0.started\"\nexec sleep 1000\n");
        File.SetUnixFileMode(cli, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        try
        {
            await using var launcher = new LauncherProcess(
                ["--verbose=true"], [new("PATH", folder.FullName + Path.PathSeparator + Environment.GetEnvironmentVariable("PATH"))]);
            await launcher.WaitForLineAsync("(Aspire dashboard)");
            await launcher.WaitForLineAsync("All services are ready");
            var endpoint = (await launcher.EnvironmentOfAsync("front"))["OTEL_EXPORTER_OTLP_ENDPOINT"];
            var started = await File.ReadAllTextAsync(cli + ".started");
            launcher.Signal("TERM");
            await launcher.WaitForExitAsync();

            Assert.Contains($"dashboard run --allow-anonymous --non-interactive --frontend-url http://localhost:", started, StringComparison.Ordinal);
            Assert.Contains($"--otlp-grpc-url {endpoint} ", started, StringComparison.Ordinal);
            Assert.False(LauncherProcess.IsRunning(int.Parse(started.Split(' ')[0], CultureInfo.InvariantCulture)));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }
}
