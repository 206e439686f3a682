using LlmPipeline.Fakes;

namespace LlmPipeline.EndToEnd.Tests;

/// <summary>All services as processes that speak mutual TLS only, asked by the command line.</summary>
[Collection(ProcessCollection.Name)]
public sealed class TlsTests
{
    [Fact]
    public async Task ARunIsSubmittedTrainedAndServedOverMutualTls()
    {
        using var authority = new TestAuthority();
        using var pipeline = new PipelineProcesses(authority);
        pipeline.Gateway.Start();
        pipeline.Start(workers: 2);
        pipeline.Evaluator.Start();
        var files = authority.Settings("somebody").Select(s => s.Value).ToArray();
        string[] secured = ["--endpoint", pipeline.Gateway.Address, "--certificate", files[0], "--key", files[1], "--authority", files[2]];

        var end = DateTime.UtcNow + PipelineProcesses.Patience;
        while ((await CallAsync(["runs", "list", .. secured])).Code != 0)
        {
            Assert.True(DateTime.UtcNow < end, pipeline.Describe(null));
        }

        var run = pipeline.WriteText("run.yaml", $$"""
            dataset:
              sources: [{{pipeline.TextFile}}]
              tokenizer: {kind: character}
            model: {layers: 1, heads: 2, width: 32, context: 32}
            training: {steps: 20, batch_size: 8, start_workers: 2}
            evaluation: {bleu_samples: 2, bleu_tokens: 8, ngram_order: 2}
            publish: {model_id: secured}
            """);
        var trained = await CallAsync(["train", run, "--run-id", "secured", "--follow", .. secured]);
        Assert.True(trained.Code == 0, $"{trained.Output}\n{pipeline.Describe(null)}");
        var answer = await CallAsync(["generate", "secured", "the ", "--max-tokens", "5", .. secured]);
        Assert.True(answer.Code == 0, $"{answer.Output}\n{pipeline.Describe(null)}");

        var stranger = await CallAsync(["runs", "list", "--endpoint", pipeline.Gateway.Address]);
        Assert.True(stranger.Code == 3, stranger.Output);
        Assert.Contains("--authority FILE", stranger.Output, StringComparison.Ordinal);
        var nameless = await CallAsync(["runs", "list", "--endpoint", pipeline.Gateway.Address, "--authority", files[2]]);
        Assert.True(nameless.Code == 3, nameless.Output);
        Assert.Contains("--certificate FILE", nameless.Output, StringComparison.Ordinal);
    }

    private static Task<(int Code, string Output)> CallAsync(string[] arguments) =>
        ChildTool.CallAsync(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", ["exec", ServiceProcess.AssemblyOf("Cli"), .. arguments], PipelineProcesses.Patience);
}
