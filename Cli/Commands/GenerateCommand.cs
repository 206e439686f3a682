using System.CommandLine;
using System.Text;
using System.Text.Json.Nodes;
using Grpc.Core;
using LlmPipeline.Inference.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe generate</c>.</summary>
internal static class GenerateCommand
{
    public static Command Create(GlobalOptions globals)
    {
        var model = new Argument<string>("MODEL") { Description = "Id of the model, models/ID, or models/ID/versions/N." };
        var prompt = new Argument<string>("PROMPT") { Description = "The text to continue; '-' reads standard input." };
        var maxTokens = new Option<int>("--max-tokens", "-n") { Description = "Most tokens to generate.", DefaultValueFactory = _ => 128 };
        var temperature = new Option<double?>("--temperature") { Description = "Divides the logits; 0 always takes the likeliest token. Default 1." };
        var topK = new Option<int>("--top-k") { Description = "Choose among the K likeliest tokens; 0 takes all." };
        var topP = new Option<double?>("--top-p") { Description = "Choose among the likeliest tokens that make up this share, above 0 to 1." };
        var seed = new Option<long?>("--seed") { Description = "The same seed gives the same text." };
        var stop = new Option<string[]>("--stop") { Description = "Ends the text where this appears. At most 4." };
        var command = new CommandWithExamples(
            "generate",
            "Continues a text with a published model, and shows the words as they come.",
            "llmpipe generate quickstart \"Gets or sets the\" --max-tokens 40",
            "llmpipe generate my-model \"Once\" --temperature 0.8 --top-k 50 --seed 1 --stop \"The end\"",
            "cat prompt.txt | llmpipe generate my-model -")
        { model, prompt, maxTokens, temperature, topK, topP, seed, stop };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var text = arguments.GetRequiredValue(prompt);
            var request = new GenerateRequest
            {
                Model = arguments.GetRequiredValue(model),
                Prompt = text == "-" ? await session.Environment.In.ReadToEndAsync(cancellationToken) : text,
                MaxTokens = arguments.GetValue(maxTokens),
                TopK = arguments.GetValue(topK),
                Stop = { arguments.GetValue(stop) ?? [] },
            };
            if (arguments.GetValue(temperature) is { } t)
            {
                request.Temperature = t;
            }

            if (arguments.GetValue(topP) is { } p)
            {
                request.TopP = p;
            }

            if (arguments.GetValue(seed) is { } s)
            {
                request.Seed = s;
            }

            await GenerateAsync(session, request, cancellationToken);
            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static async Task GenerateAsync(Session session, GenerateRequest request, CancellationToken cancellationToken)
    {
        using var call = session.Inference.Generate(request, cancellationToken: cancellationToken);
        var text = new StringBuilder();
        var version = "";
        GenerateResponse? last = null;
        await foreach (var response in call.ResponseStream.ReadAllAsync(cancellationToken))
        {
            if (last is null && !session.Json)
            {
                session.Environment.Out.Write(TerminalText.Safe(request.Prompt));
            }

            last = response;
            version = response.ModelVersion.Length > 0 ? response.ModelVersion : version;
            if (session.Json)
            {
                text.Append(response.Text);
            }
            else
            {
                session.Environment.Out.Write(TerminalText.Safe(response.Text));
                session.Environment.Out.Flush();
            }
        }

        session.Environment.Out.WriteLine(session.Json
            ? new JsonObject
            {
                ["model_version"] = version,
                ["prompt"] = request.Prompt,
                ["text"] = text.ToString(),
                ["finish_reason"] = last?.FinishReason,
                ["prompt_token_count"] = last?.PromptTokenCount,
                ["completion_token_count"] = last?.CompletionTokenCount,
            }.ToJsonString()
            : "");
    }
}
