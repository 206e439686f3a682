using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Text;

namespace LlmPipeline.Trainer.Worker;

/// <summary>Lets the model in training write: the same prompts and seeds at each validation, so that the texts can be compared.</summary>
internal static class SampleWriter
{
    private const double Temperature = 0.8;

    /// <summary>Writes the samples that a spec asks for; null when it asks for none, or the model does not continue text.</summary>
    public static Func<IReadOnlyList<TextSample>>? For(RunSpec spec, LanguageModel model, string tokenizerJson)
    {
        if (spec.Training.SampleTokens == 0 || model.Config.Classes > 0 || spec.Model.Objective == "masked")
        {
            return null;
        }

        var tokenizer = TokenizerFile.Parse(tokenizerJson);
        string[] prompts = spec.Training.SamplePrompts.Count > 0 ? [.. spec.Training.SamplePrompts] : [""];
        return () => [.. prompts.Select((prompt, index) => new TextSample { Prompt = prompt, Text = Write(spec, model, tokenizer, prompt, index) })];
    }

    private static string Write(RunSpec spec, LanguageModel model, ITokenizer tokenizer, string prompt, int index)
    {
        var options = new SamplingOptions { Temperature = Temperature, Seed = (long)Seeds.Derive(spec.Seed, "sample", index) };
        try
        {
            return tokenizer.Decode([.. Generation.Generate(model, tokenizer.Encode(prompt), spec.Training.SampleTokens, options)]);
        }
        catch (Exception exception) when (exception is ArithmeticException or ArgumentException)
        {
            // Broken weights, or an id that the tokenizer does not know: nothing that training should end for.
            return $"(no text: {exception.Message})";
        }
    }
}
