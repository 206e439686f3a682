using System.Globalization;
using System.Net.Http.Json;
using System.Text;

namespace LlmPipeline.Bench;

/// <summary>The README's quick start as a stranger runs it: fresh clone, restored packages, one command, then Ctrl-C.</summary>
internal static class QuickStartBench
{
    private static readonly TimeSpan Goal = TimeSpan.FromMinutes(6);

    public static async Task<int> RunAsync(string[] arguments)
    {
        var workerCounts = arguments.Length > 0 ? arguments.Select(a => int.Parse(a, CultureInfo.InvariantCulture)).ToArray() : [2, 1, 3];
        var rows = new StringBuilder();
        var worst = TimeSpan.Zero;
        var allAnswered = true;
        var outputs = new StringBuilder();
        foreach (var workers in workerCounts)
        {
            var clone = Directory.CreateTempSubdirectory("llmpipeline-quickstart-").FullName;
            try
            {
                await Machine.OutputOfAsync("git", ["clone", "--quiet", Machine.RepositoryRoot, clone]);
                await Machine.OutputOfAsync("dotnet", ["restore", "AppHost", "--verbosity", "quiet"], clone, new Dictionary<string, string> { ["UseAspire"] = "false" });
                Console.WriteLine($"== {workers} workers");
                await using var application = Application.Start(clone, ["--quickstart", "--workers", $"{workers}"], storage: null, (line, time) => Console.WriteLine($"{time:mm\\:ss} {line}"));
                var time = await application.WaitForLineAsync(l => l.Contains("curl ", StringComparison.Ordinal), TimeSpan.FromMinutes(15));
                var answer = await AskAsync();
                allAnswered &= answer == "yes";
                var stop = await application.StopAsync();
                worst = time > worst ? time : worst;
                rows.AppendLine(CultureInfo.InvariantCulture, $"| {workers} | {time.TotalSeconds:F0} | {answer} | {stop.TotalSeconds:F1} |");
                outputs.AppendLine(CultureInfo.InvariantCulture, $"\n{workers} workers:\n").AppendJoin('\n', application.Lines.Select(l => "    " + l.Replace(clone, ".", StringComparison.Ordinal))).AppendLine();
            }
            finally
            {
                Directory.Delete(clone, recursive: true);
            }
        }

        var last = $"quickstart: {worst.TotalSeconds:F0} s (goal {Goal.TotalSeconds:F0} s)";
        await Machine.PublishAsync("quickstart", $"""
            # Quick start

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- quickstart " + string.Join(' ', workerCounts))}

            From `dotnet run --project AppHost -- --quickstart` in a fresh clone with restored packages (build included) to the line that says what to try next; then Ctrl-C until no process is left.

            | workers | seconds to the answering model | answers over REST | seconds to stop |
            | ---: | ---: | --- | ---: |
            {rows}
            ## Output
            {outputs}
            {last}
            """);
        return worst <= Goal && allAnswered ? 0 : 1;
    }

    private static async Task<string> AskAsync()
    {
        using var http = new HttpClient { BaseAddress = new Uri("http://localhost:5080") };
        using var response = await http.PostAsJsonAsync("/v1/completions", new { model = "quickstart", prompt = "Returns the", max_tokens = 16, temperature = 0 });
        return response.IsSuccessStatusCode ? "yes" : $"no: {(int)response.StatusCode}";
    }
}
