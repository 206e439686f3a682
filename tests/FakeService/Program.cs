// A service of nothing but the defaults, which tests start as a process and make misbehave by configuration.
using System.Runtime.InteropServices;
using LlmPipeline.ServiceDefaults;
using Microsoft.Extensions.Diagnostics.HealthChecks;

if (args is ["--exit", var code])
{
    Console.WriteLine("the result of a short program");
    return int.Parse(code, System.Globalization.CultureInfo.InvariantCulture);
}

var builder = WebApplication.CreateBuilder(args);
builder.AddServiceDefaults();
var started = DateTime.UtcNow;
var readyAfter = TimeSpan.FromSeconds(builder.Configuration.GetValue("Fake:ReadyAfterSeconds", 0.0));
builder.Services.AddHealthChecks().AddCheck(
    "warm", () => DateTime.UtcNow - started >= readyAfter ? HealthCheckResult.Healthy() : HealthCheckResult.Unhealthy());

// A process that neither SIGTERM nor SIGINT ends.
PosixSignalRegistration[] ignored = builder.Configuration.GetValue("Fake:IgnoreSignals", false)
    ? [Ignore(PosixSignal.SIGTERM), Ignore(PosixSignal.SIGINT)]
    : [];

await using var app = builder.Build();
app.MapDefaultEndpoints();
app.MapGet("/environment", () => Environment.GetEnvironmentVariables());
app.MapGet("/pid", () => Environment.ProcessId);
app.MapPost("/crash", () =>
{
    Console.Error.WriteLine("last words");
    Environment.Exit(7);
});
await app.RunAsync();
if (ignored.Length > 0)
{
    await Task.Delay(Timeout.Infinite);
}

return 0;

static PosixSignalRegistration Ignore(PosixSignal signal) => PosixSignalRegistration.Create(signal, context => context.Cancel = true);
