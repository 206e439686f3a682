using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Grpc.Core;
using Grpc.Net.Client;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;

namespace LlmPipeline.Preprocessor.Tests;

/// <summary>The service as a process of its own, which can be killed and frozen. Disposing kills it.</summary>
internal sealed partial class PreprocessorProcess : IAsyncDisposable
{
    private const int Stop = 19;
    private const int Continue = 18;

    private readonly Process _process;
    private readonly GrpcChannel _channel;

    private PreprocessorProcess(Process process, int port)
    {
        _process = process;
        _channel = GrpcChannel.ForAddress($"http://127.0.0.1:{port}");
        Datasets = new DatasetService.DatasetServiceClient(_channel);
    }

    public DatasetService.DatasetServiceClient Datasets { get; }

    public static PreprocessorProcess Start(string storage, string scratch, long unitBytes = 32 << 20)
    {
        var port = FreePort.Next();
        var process = Process.Start(new ProcessStartInfo("dotnet", ["exec", Path.Combine(AppContext.BaseDirectory, "LlmPipeline.Preprocessor.dll")])
        {
            Environment =
            {
                ["ASPNETCORE_URLS"] = "http://127.0.0.1:0",
                ["GRPC_PORT"] = $"{port}",
                ["ConnectionStrings__storage"] = storage.Contains('=', StringComparison.Ordinal) ? storage : $"folder={storage}",
                ["Preprocessor__ScratchFolder"] = scratch,
                ["Preprocessor__UnitBytes"] = unitBytes.ToString(CultureInfo.InvariantCulture),
                ["Logging__LogLevel__Default"] = "Error",
            },
        })!;
        return new PreprocessorProcess(process, port);
    }

    /// <summary>Creates a dataset, as soon as the service answers.</summary>
    public async Task<Dataset> CreateAsync(DatasetSpec spec, string id = "") => (await Datasets.CreateDatasetAsync(
        new CreateDatasetRequest { DatasetId = id, Spec = spec }, new CallOptions(deadline: PreprocessorHost.Deadline).WithWaitForReady())).Dataset;

    /// <summary>As <c>kill -9</c>.</summary>
    public async Task KillAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync().WaitAsync(PreprocessorHost.Patience);
    }

    /// <summary>Stops the process without its knowledge.</summary>
    public void Freeze() => Signal(Stop);

    /// <summary>Lets it go on.</summary>
    public void Thaw() => Signal(Continue);

    public async ValueTask DisposeAsync()
    {
        _channel.Dispose();
        await KillAsync();
        _process.Dispose();
    }

    private void Signal(int signal)
    {
        if (Kill(_process.Id, signal) != 0)
        {
            throw new Win32Exception(Marshal.GetLastPInvokeError());
        }
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int id, int signal);
}
