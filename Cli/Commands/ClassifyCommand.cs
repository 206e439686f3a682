using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using LlmPipeline.Inference.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary><c>llmpipe classify</c>.</summary>
internal static class ClassifyCommand
{
    // Of a request, of which the Gateway takes 256 texts and 200,000 characters.
    private const int MaxTexts = 64;
    private const int MaxCharacters = 50_000;

    public static Command Create(GlobalOptions globals)
    {
        var model = new Argument<string>("MODEL") { Description = "Id of a classifier, models/ID, or models/ID/versions/N." };
        var texts = new Argument<string[]>("TEXT") { Description = "What to classify; '-' reads standard input, a text a line.", Arity = ArgumentArity.OneOrMore };
        var command = new CommandWithExamples(
            "classify",
            "Tells the class of texts with a published model that was fine-tuned on documents with labels.",
            "llmpipe classify my-model \"It was a joy from beginning to end.\"",
            "cat reviews.txt | llmpipe classify my-model - --json")
        { model, texts };
        globals.SetAction(command, async (arguments, session, cancellationToken) =>
        {
            var inputs = arguments.GetRequiredValue(texts);
            if (inputs is ["-"])
            {
                inputs = (await session.Environment.In.ReadToEndAsync(cancellationToken)).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            }

            var rows = new List<string[]>();
            foreach (var batch in Batches(inputs))
            {
                var response = await session.Inference.ClassifyAsync(new ClassifyRequest { Model = arguments.GetRequiredValue(model), Inputs = { batch } }, cancellationToken: cancellationToken);
                foreach (var (text, result) in batch.Zip(response.Results))
                {
                    if (session.Json)
                    {
                        session.Environment.Out.WriteLine(new JsonObject
                        {
                            ["model_version"] = response.ModelVersion,
                            ["text"] = text,
                            ["label"] = result.Label,
                            ["probabilities"] = new JsonObject(response.Labels.Zip(result.Probabilities).Select(p => KeyValuePair.Create(p.First, (JsonNode?)p.Second))),
                        }.ToJsonString());
                    }
                    else
                    {
                        rows.Add([TerminalText.Safe(result.Label), result.Probabilities.Max().ToString("P1", CultureInfo.InvariantCulture), TerminalText.Safe(text)]);
                    }
                }
            }

            if (!session.Json)
            {
                Listing.Write(session, "There is no text to classify.", ["CLASS", "PROBABILITY", "TEXT"], rows);
            }

            return ExitCodes.Succeeded;
        });
        return command;
    }

    private static IEnumerable<string[]> Batches(string[] texts)
    {
        var (batch, characters) = (new List<string>(), 0);
        foreach (var text in texts)
        {
            if (batch.Count > 0 && (batch.Count == MaxTexts || characters + text.Length > MaxCharacters))
            {
                yield return [.. batch];
                batch.Clear();
                characters = 0;
            }

            batch.Add(text);
            characters += text.Length;
        }

        if (batch.Count > 0)
        {
            yield return [.. batch];
        }
    }
}
