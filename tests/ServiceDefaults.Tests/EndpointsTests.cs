using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Grpc.Health.V1;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace LlmPipeline.ServiceDefaults.Tests;

public sealed class EndpointsTests
{
    [Fact]
    public async Task ServesHealthOverHttpAndOverGrpc()
    {
        await using var service = await TestService.StartAsync();

        Assert.Equal("Healthy", await service.Http.GetStringAsync("/health/live").WaitAsync(TestService.Patience));
        Assert.Equal("Healthy", await service.Http.GetStringAsync("/health/ready").WaitAsync(TestService.Patience));
        var reply = await new Health.HealthClient(service.Grpc).CheckAsync(
            new HealthCheckRequest(), deadline: DateTime.UtcNow + TestService.Patience);
        Assert.Equal(HealthCheckResponse.Types.ServingStatus.Serving, reply.Status);
    }

    [Fact]
    public async Task AFailingCheckMakesAServiceNotReadyButLeavesItAlive()
    {
        await using var service = await TestService.StartAsync(builder =>
            builder.Services.AddHealthChecks().AddCheck("storage", () => HealthCheckResult.Unhealthy()));

        using var live = await service.Http.GetAsync("/health/live").WaitAsync(TestService.Patience);
        using var ready = await service.Http.GetAsync("/health/ready").WaitAsync(TestService.Patience);

        Assert.Equal(HttpStatusCode.OK, live.StatusCode);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, ready.StatusCode);
    }

    [Fact]
    public async Task APortInUseIsOneLineThatNamesItAndExitCodeOne()
    {
        using var occupant = new TcpListener(IPAddress.Loopback, 0);
        occupant.Start();
        var port = ((IPEndPoint)occupant.LocalEndpoint).Port;

        var start = new ProcessStartInfo("dotnet", ["exec", Path.Combine(AppContext.BaseDirectory, "LlmPipeline.FakeService.dll")])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
            Environment = { ["ASPNETCORE_URLS"] = "http://127.0.0.1:0", ["GRPC_PORT"] = $"{port}" },
        };
        using var process = Process.Start(start)!;
        using var patience = new CancellationTokenSource(TestService.Patience);
        var output = process.StandardOutput.ReadToEndAsync(patience.Token);
        var error = await process.StandardError.ReadToEndAsync(patience.Token);
        await process.WaitForExitAsync(patience.Token);

        Assert.Equal(1, process.ExitCode);
        var line = Assert.Single(error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.Contains($"port {port} is in use", line, StringComparison.Ordinal);
        Assert.Contains("LlmPipeline.FakeService", line, StringComparison.Ordinal);
        Assert.Contains("GRPC_PORT", line, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", await output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("http")]
    [InlineData("70000")]
    public async Task AWrongGrpcPortIsNamed(string port)
    {
        var error = await Assert.ThrowsAsync<InvalidOperationException>(() => TestService.StartAsync(builder =>
        {
            builder.Configuration["GRPC_PORT"] = port;
            builder.AddServiceDefaults();
        }));

        Assert.Contains($"GRPC_PORT is '{port}'", error.Message, StringComparison.Ordinal);
    }
}
