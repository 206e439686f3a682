using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using LlmPipeline.Fakes;

namespace LlmPipeline.Bench.Quality;

/// <summary>A training to reproduce: a run file and what is set over it.</summary>
/// <param name="Group">What it is compared with.</param>
/// <param name="Name">Its row.</param>
/// <param name="File">The run file, relative to the repository.</param>
/// <param name="Settings">KEY=VALUE each.</param>
internal sealed record Training(string Group, string Name, string File, IReadOnlyList<string> Settings);

/// <summary>What came of a training.</summary>
/// <param name="Loss">Loss of the best checkpoint over the whole split, in nats per token.</param>
/// <param name="Accuracy">Share of the tokens predicted right.</param>
/// <param name="NgramLoss">Loss of the n-gram model of the same tokens.</param>
/// <param name="TokenCount">Predicted tokens.</param>
/// <param name="TrainSeconds">Seconds of training.</param>
internal sealed record Trained(double Loss, double Accuracy, double NgramLoss, long TokenCount, double TrainSeconds);

/// <summary>
/// Trains through the application, as a user would, and keeps what came of it: a training that has been done is not done again,
/// one that was interrupted goes on from its checkpoint.
/// </summary>
/// <param name="folder">Where it is kept.</param>
/// <param name="workers">Workers that train.</param>
/// <param name="bench">Begins the names of its runs.</param>
internal sealed class TrainingRuns(string folder, int workers, string bench = "quality") : IAsyncDisposable
{
    private readonly int _httpPort = FreePort.Next();
    private readonly int _grpcPort = FreePort.Next();
    private Application? _application;

    private string Endpoint => $"http://localhost:{_grpcPort}";

    /// <summary>The id of a training's run.</summary>
    public string IdOf(Training training) => $"{bench}-{KeyOf(training)}";

    /// <summary>Trains, or finds what was trained.</summary>
    public async Task<Trained> GetAsync(Training training)
    {
        var kept = Path.Combine(folder, $"{KeyOf(training)}.json");
        if (File.Exists(kept))
        {
            return Parse(await File.ReadAllTextAsync(kept));
        }

        await StartAsync();
        var run = IdOf(training);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"== {DateTime.Now:HH:mm:ss} {training.Group}: {training.Name} (run {run})"));
        var shown = await FollowAsync(run, training);
        await File.WriteAllTextAsync(kept, shown);
        var trained = Parse(shown);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"   {trained.Loss:F4} nats, {trained.TrainSeconds:F0} s of training"));
        return trained;
    }

    public async ValueTask DisposeAsync()
    {
        if (_application is { HasExited: false })
        {
            await _application.StopAsync();
        }

        await (_application?.DisposeAsync() ?? ValueTask.CompletedTask);
    }

    private async Task StartAsync()
    {
        if (_application is null)
        {
            _application = Application.Start(
                Machine.RepositoryRoot, ["--workers", $"{workers}", "--http-port", $"{_httpPort}", "--grpc-port", $"{_grpcPort}"], Path.Combine(folder, "storage"));
            await _application.WaitForLineAsync(l => l.Contains(Endpoint, StringComparison.Ordinal), TimeSpan.FromMinutes(10));
        }
    }

    private async Task<string> FollowAsync(string run, Training training)
    {
        if (await StateAsync(run) is not { } state)
        {
            await CliAsync(["train", training.File, .. training.Settings.SelectMany(s => (string[])["--set", s]), "--set", $"training.start_workers={workers}", "--run-id", run, "--follow"]);
        }
        else
        {
            if (state is "STATE_FAILED" or "STATE_CANCELLED")
            {
                await CliAsync(["runs", "resume", run]);
            }

            await CliAsync(["runs", "watch", run]);
        }

        return await CliAsync(["runs", "show", run, "--json"]);
    }

    private async Task<string?> StateAsync(string run)
    {
        using var runs = JsonDocument.Parse(await CliAsync(["runs", "list", "--json"]));
        var listed = runs.RootElement.ValueKind == JsonValueKind.Array ? runs.RootElement : runs.RootElement.GetProperty("runs");
        return listed.EnumerateArray().FirstOrDefault(r => r.GetProperty("name").GetString() == $"runs/{run}") is { ValueKind: JsonValueKind.Object } found
            ? found.GetProperty("state").GetString() : null;
    }

    private Task<string> CliAsync(IReadOnlyList<string> arguments) =>
        Machine.OutputOfAsync("dotnet", ["run", "--project", "Cli", "--", .. arguments, "--endpoint", Endpoint], Machine.RepositoryRoot);

    private static string KeyOf(Training training) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(
        File.ReadAllText(Path.Combine(Machine.RepositoryRoot, training.File)) + string.Join('\n', training.Settings))))[..12];

    private static Trained Parse(string json)
    {
        using var document = JsonDocument.Parse(json);
        var run = document.RootElement;
        var evaluation = run.GetProperty("evaluation");
        var model = evaluation.GetProperty("model");
        return new Trained(
            model.GetProperty("loss").GetDouble(),
            model.GetProperty("accuracy").GetDouble(),
            evaluation.GetProperty("ngram").GetProperty("loss").GetDouble(),
            long.Parse(model.GetProperty("token_count").GetString()!, CultureInfo.InvariantCulture),
            run.GetProperty("progress").GetProperty("train_seconds").GetDouble());
    }
}
