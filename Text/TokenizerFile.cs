using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>Reads <c>tokenizer.json</c> files.</summary>
public static class TokenizerFile
{
    /// <summary>
    /// Reads a tokenizer that this project wrote, or another byte-level BPE file with GPT-2's splitting and a special token
    /// <c>&lt;|endoftext|&gt;</c>. The text is kept as it is, and so is its hash.
    /// </summary>
    /// <exception cref="InvalidDataException">The text is not such a file; the message says where.</exception>
    public static ITokenizer Parse(string json)
    {
        ArgumentNullException.ThrowIfNull(json);
        try
        {
            using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = 16 });
            if (document.RootElement.ValueKind != JsonValueKind.Object)
            {
                throw new InvalidDataException("the file has to be a JSON object.");
            }

            var file = new TokenizerJson(document.RootElement);
            TokenizerJson.RequireAbsent(file.Root, "", "normalizer");
            return TokenizerJson.Text(file.Model, "model", "type") switch
            {
                "BPE" => BpeFile.Read(file, json),
                "WordLevel" => CharacterFile.Read(file, json),
                var type => throw new InvalidDataException($"model.type is {BpeVocabulary.Quote(type)}: only BPE and WordLevel are supported."),
            };
        }
        catch (JsonException exception)
        {
            throw new InvalidDataException($"tokenizer.json is not JSON: line {exception.LineNumber + 1}, byte {exception.BytePositionInLine + 1}: {exception.Message}", exception);
        }
        catch (InvalidDataException exception)
        {
            throw new InvalidDataException($"tokenizer.json cannot be used: {exception.Message}", exception);
        }
        catch (InvalidOperationException exception)
        {
            // Thrown for an escaped half of a surrogate pair, which is no character.
            throw new InvalidDataException($"tokenizer.json has text that is not Unicode: {exception.Message}", exception);
        }
    }
}
