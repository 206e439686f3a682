using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace LlmPipeline.ServiceDefaults;

/// <summary>Ends a service whose launcher (LLMPIPELINE_PARENT_PID) is gone, even where that was killed and could say nothing.</summary>
[SuppressMessage("Performance", "CA1812", Justification = "Made by dependency injection.")]
internal sealed partial class ParentWatch(IConfiguration configuration, IHostApplicationLifetime lifetime, ILogger<ParentWatch> logger)
    : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(3);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var parent = int.Parse(configuration[ParentWatchExtensions.Key]!, CultureInfo.InvariantCulture);
        while (IsParent(parent))
        {
            await Task.Delay(Interval, stoppingToken);
        }

        ParentGone(parent);
        // A service that hangs in its own shutdown must not outlive the launcher either.
        new Thread(() =>
        {
            Thread.Sleep(Grace);
            using var self = Process.GetCurrentProcess();
            self.Kill();
        })
        { IsBackground = true }.Start();
        lifetime.StopApplication();
    }

    // A killed parent can stay in the process table for a while; that its children got another parent is certain.
    private static bool IsParent(int pid)
    {
        if (!OperatingSystem.IsWindows())
        {
            return GetParentId() == pid;
        }

        try
        {
            using var process = Process.GetProcessById(pid);
            return !process.HasExited;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    [LibraryImport("libc", EntryPoint = "getppid")]
    private static partial int GetParentId();

    [LoggerMessage(1, LogLevel.Warning, "The launcher (process {Parent}) is gone; this service stops too")]
    private partial void ParentGone(int parent);
}

internal static class ParentWatchExtensions
{
    public const string Key = "LLMPIPELINE_PARENT_PID";

    public static void AddParentWatch(this IServiceCollection services, IConfiguration configuration)
    {
        if (int.TryParse(configuration[Key], NumberStyles.None, CultureInfo.InvariantCulture, out _))
        {
            services.AddHostedService<ParentWatch>();
        }
    }
}
