using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.CompilerServices;

namespace LlmPipeline.Storage.Tests;

/// <summary>This program once more, as another process that works on a folder store until it is done or killed.</summary>
internal sealed class ChildProcess : IDisposable
{
    private const string Variable = "LLMPIPELINE_STORAGE_CHILD";
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private readonly Process _process;

    public ChildProcess(string mode, string folder)
    {
        var program = Path.Combine(AppContext.BaseDirectory, typeof(ChildProcess).Assembly.GetName().Name + ".dll");
        var dotnet = Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet" ? Environment.ProcessPath! : "dotnet";
        _process = Process.Start(new ProcessStartInfo(dotnet, [program])
        {
            RedirectStandardOutput = true,
            Environment = { [Variable] = $"{mode}|{folder}" },
        })!;
    }

    public async Task<string?> ReadLineAsync() => await _process.StandardOutput.ReadLineAsync().WaitAsync(Limit);

    /// <summary>SIGKILL.</summary>
    public async Task KillAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync().WaitAsync(Limit);
    }

    public async Task WaitAsync()
    {
        await _process.WaitForExitAsync().WaitAsync(Limit);
        Assert.Equal(0, _process.ExitCode);
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
        }

        _process.Dispose();
    }

    // Runs before the program's entry point; all on one thread, since other threads would wait for this method to end.
    [ModuleInitializer]
    [SuppressMessage("Usage", "CA2255", Justification = "This is a program, not a library.")]
    internal static void RunWhenAsked()
    {
        if (Environment.GetEnvironmentVariable(Variable)?.Split('|') is not [var mode, var folder])
        {
            return;
        }

        var store = new FolderBlobStore(folder);
        switch (mode)
        {
            case "write":
                var writer = store.CreateAsync("victim").GetAwaiter().GetResult();
                writer.Stream.Write(new byte[1024 * 1024]);
                writer.Stream.Flush();
                Console.WriteLine("ready");
                Thread.Sleep(Timeout.Infinite);
                break;
            case "overwrite":
                for (var i = 0; ; i++)
                {
                    var content = new string((char)('a' + (i % 26)), 200_000);
                    store.WriteTextAsync("victim", content).GetAwaiter().GetResult();
                    if (i == 0)
                    {
                        Console.WriteLine("ready");
                    }
                }

            case "lease":
                Console.WriteLine(store.TryAcquireLeaseAsync("victim", TimeSpan.FromSeconds(15)).GetAwaiter().GetResult() is null ? "taken" : "ready");
                Thread.Sleep(Timeout.Infinite);
                break;
            case "come-and-go":
                for (var i = 0; i < 1000; i++)
                {
                    store.WriteTextAsync("shared/folder/other", "x").GetAwaiter().GetResult();
                    store.DeleteAsync("shared/folder/other").GetAwaiter().GetResult();
                }

                break;
            case "count":
                for (var done = 0; done < 50;)
                {
                    var (text, eTag) = store.TryReadTextAsync("counter").GetAwaiter().GetResult()!.Value;
                    try
                    {
                        var next = int.Parse(text, CultureInfo.InvariantCulture) + 1;
                        store.WriteTextAsync("counter", next.ToString(CultureInfo.InvariantCulture), BlobCondition.Matches(eTag)).GetAwaiter().GetResult();
                        done++;
                    }
                    catch (BlobConditionException)
                    {
                    }
                }

                break;
        }

        Environment.Exit(0);
    }
}
