using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using LlmPipeline.Fakes;

namespace LlmPipeline.Gateway.Tests;

/// <summary>The REST API with one model that writes random text without end.</summary>
public sealed class CompletionsTests : IAsyncLifetime
{
    private readonly TemporaryFolder _storage = new();
    private GatewayHost _gateway = null!;

    public async ValueTask InitializeAsync()
    {
        await TinyModel.PublishAsync(_storage.Path, properties: new JsonObject { ["run"] = "runs/run-1", ["loss"] = 2.5 });
        _gateway = await GatewayHost.StartAsync(_storage.Path);
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _storage.Dispose();
    }

    [Fact]
    public async Task ModelsAreListedWithWhatIsKnownOfThem()
    {
        var list = JsonNode.Parse(await _gateway.Http.GetStringAsync("/v1/models"))!;
        Assert.Equal("list", (string?)list["object"]);
        var model = Assert.Single(list["data"]!.AsArray())!;
        Assert.Equal("tiny", (string?)model["id"]);
        Assert.Equal("models/tiny/versions/1", (string?)model["version"]);
        Assert.Equal("runs/run-1", (string?)model["run"]);
        Assert.Equal(32, (int?)model["context_length"]);
        Assert.Equal(2.5, (double?)model["loss"]);
        Assert.True((long?)model["parameter_count"] > 1000);
    }

    [Theory]
    [InlineData("tiny")]
    [InlineData("models/tiny")]
    [InlineData("models/tiny/versions/1")]
    public async Task AModelHasThreeNames(string name)
    {
        var model = JsonNode.Parse(await _gateway.Http.GetStringAsync($"/v1/models/{name}"))!;
        Assert.Equal("tiny", (string?)model["id"]);
        var answer = await CompleteAsync($$"""{"model": "{{name}}", "prompt": "a", "max_tokens": 1}""");
        Assert.Equal("models/tiny/versions/1", (string?)answer["model"]);
    }

    [Fact]
    public async Task AnUnknownModelIsAnErrorThatListsWhatThereIs()
    {
        var get = await _gateway.Http.GetAsync("/v1/models/gpt-5");
        Assert.Equal(HttpStatusCode.NotFound, get.StatusCode);
        Assert.Equal("model_not_found", (string?)JsonNode.Parse(await get.Content.ReadAsStringAsync())!["error"]!["code"]);
        var (status, error) = await FailAsync("""{"model": "gpt-5", "prompt": "a"}""");
        Assert.Equal(HttpStatusCode.NotFound, status);
        Assert.Equal("model_not_found", (string?)error["code"]);
        Assert.Equal("The model 'gpt-5' does not exist. Published models: tiny.", (string?)error["message"]);
    }

    [Fact]
    public async Task AnAnswerHasTextUsageAndReason()
    {
        var answer = await CompleteAsync("""{"model": "tiny", "prompt": ["the cat"], "max_tokens": 20, "seed": 1}""");
        Assert.Equal("text_completion", (string?)answer["object"]);
        Assert.StartsWith("cmpl-", (string?)answer["id"], StringComparison.Ordinal);
        var choice = Assert.Single(answer["choices"]!.AsArray())!;
        Assert.Equal(20, ((string?)choice["text"])!.Length);
        Assert.Equal("length", (string?)choice["finish_reason"]);
        Assert.Equal(7, (int?)answer["usage"]!["prompt_tokens"]);
        Assert.Equal(20, (int?)answer["usage"]!["completion_tokens"]);
        Assert.Equal(27, (int?)answer["usage"]!["total_tokens"]);
    }

    [Fact]
    public async Task WithoutMaxTokensThereAreSixteenAsInOpenAisApi() =>
        Assert.Equal(16, (int?)(await CompleteAsync("""{"model": "tiny", "prompt": "a"}"""))["usage"]!["completion_tokens"]);

    [Fact]
    public async Task TheSameSeedGivesTheSameTextAndAnotherSeedAnother()
    {
        var texts = new List<string>();
        foreach (var seed in (int[])[5, 5, 6])
        {
            texts.Add(TextOf(await CompleteAsync($$"""{"model": "tiny", "prompt": "a", "max_tokens": 40, "seed": {{seed}}}""")));
        }

        Assert.Equal(texts[0], texts[1]);
        Assert.NotEqual(texts[0], texts[2]);
    }

    [Fact]
    public async Task AStreamGivesTheTextOfTheWholeAnswer()
    {
        const string Request = """{"model": "tiny", "prompt": "a", "max_tokens": 60, "seed": 3, "temperature": 0.7, "top_k": 9, "top_p": 0.9""";
        var whole = await CompleteAsync(Request + "}");
        var events = await StreamAsync(Request + """, "stream": true, "stream_options": {"include_usage": true}}""");
        Assert.Equal("[DONE]", events[^1]);
        var chunks = events[..^1].Select(e => JsonNode.Parse(e)!).ToArray();
        Assert.True(chunks.Length > 30);
        Assert.Equal(TextOf(whole), string.Concat(chunks[..^1].Select(TextOf)));
        Assert.Equal("length", (string?)chunks[^2]["choices"]![0]!["finish_reason"]);
        Assert.All(chunks[..^2], c => Assert.Null((string?)c["choices"]![0]!["finish_reason"]));
        Assert.Empty(chunks[^1]["choices"]!.AsArray());
        Assert.Equal(whole["usage"]!.ToJsonString(), chunks[^1]["usage"]!.ToJsonString());
        Assert.Single(chunks.Select(c => (string?)c["id"]).Distinct());
    }

    [Fact]
    public async Task AStreamWithoutIncludeUsageHasNone()
    {
        var events = await StreamAsync("""{"model": "tiny", "prompt": "a", "max_tokens": 3, "stream": true}""");
        Assert.All(events[..^1], e => Assert.Null(JsonNode.Parse(e)!["usage"]));
    }

    [Fact]
    public async Task AStopTextEndsTheAnswerBeforeIt()
    {
        var full = TextOf(await CompleteAsync("""{"model": "tiny", "prompt": "a", "max_tokens": 60, "seed": 11}"""));
        var stop = full.Substring(20, 3);
        var expected = full[..full.IndexOf(stop, StringComparison.Ordinal)];
        var request = new JsonObject { ["model"] = "tiny", ["prompt"] = "a", ["max_tokens"] = 60, ["seed"] = 11, ["stop"] = new JsonArray("\u4e2d\u4e2d\u4e2d\u4e2d\u4e2d\u4e2d", stop) };
        var answer = await CompleteAsync(request.ToJsonString());
        Assert.Equal(expected, TextOf(answer));
        Assert.Equal("stop", (string?)answer["choices"]![0]!["finish_reason"]);
        Assert.Equal(expected.Length + 3, (int?)answer["usage"]!["completion_tokens"]);

        request["stream"] = true;
        var events = await StreamAsync(request.ToJsonString());
        Assert.Equal(expected, string.Concat(events[..^1].Select(e => TextOf(JsonNode.Parse(e)!))));
    }

    [Fact]
    public async Task CharactersOfSeveralTokensComeWholeAndAStopTextMayBeginInTheMiddleOfThem()
    {
        await TinyModel.PublishAsync(_storage.Path, "bytes", says: "ab\u00e9\u4e2dcd", inBytes: true);
        await _gateway.RefreshAsync();
        const string Request = """{"model": "bytes", "prompt": "a", "max_tokens": 27""";
        var answer = await CompleteAsync(Request + "}");
        Assert.Equal(string.Concat(Enumerable.Repeat("ab\u00e9\u4e2dcd", 3)), TextOf(answer));
        Assert.Equal(27, (int?)answer["usage"]!["completion_tokens"]);

        var events = await StreamAsync(Request + """, "stream": true}""");
        var pieces = events[..^1].Select(e => TextOf(JsonNode.Parse(e)!)).ToArray();
        Assert.Equal(TextOf(answer), string.Concat(pieces));
        Assert.All(pieces, p => Assert.True(p.Length <= 1));

        Assert.Equal("ab\u00e9", TextOf(await CompleteAsync(Request + """, "stop": "\u4e2dc"}""")));
        Assert.Equal("ab", TextOf(await CompleteAsync("""{"model": "bytes", "prompt": "a", "max_tokens": 2}""")));
        Assert.Equal("ab\ufffd", TextOf(await CompleteAsync("""{"model": "bytes", "prompt": "a", "max_tokens": 3}""")));
    }

    [Fact]
    public async Task EchoPutsThePromptFirst()
    {
        var answer = await CompleteAsync("""{"model": "tiny", "prompt": "the cat", "max_tokens": 2, "echo": true}""");
        Assert.StartsWith("the cat", TextOf(answer), StringComparison.Ordinal);
        Assert.Equal(9, TextOf(answer).Length);
    }

    [Fact]
    public async Task TheEndOfTheTextEndsTheAnswer()
    {
        await TinyModel.PublishAsync(_storage.Path, "silent", ends: true);
        await _gateway.RefreshAsync();
        var answer = await CompleteAsync("""{"model": "silent", "prompt": "a"}""");
        Assert.Equal("", TextOf(answer));
        Assert.Equal("stop", (string?)answer["choices"]![0]!["finish_reason"]);
        Assert.Equal(0, (int?)answer["usage"]!["completion_tokens"]);
    }

    [Fact]
    public async Task ALongPromptKeepsItsNewestTokens()
    {
        var newest = string.Concat(Enumerable.Repeat("abcdefgh", 4));
        var long_ = await CompleteAsync($$"""{"model": "tiny", "prompt": "{{new string('z', 5000) + newest}}", "max_tokens": 8, "seed": 1}""");
        var short_ = await CompleteAsync($$"""{"model": "tiny", "prompt": "{{newest}}", "max_tokens": 8, "seed": 1}""");
        Assert.Equal(TextOf(short_), TextOf(long_));
        Assert.Equal(5032, (int?)long_["usage"]!["prompt_tokens"]);
    }

    [Fact]
    public async Task AnEmptyPromptBeginsADocument() =>
        Assert.Equal(4, TextOf(await CompleteAsync("""{"model": "tiny", "prompt": "", "max_tokens": 4}""")).Length);

    [Theory]
    [InlineData("\"max_tokens\": 0", "max_tokens", "max_tokens is 0: give a number from 1 to 4096.")]
    [InlineData("\"max_tokens\": -5", "max_tokens", "max_tokens is -5: give a number from 1 to 4096.")]
    [InlineData("\"max_tokens\": 2147483648", "max_tokens", "max_tokens is 2147483648: give a number from 1 to 4096.")]
    [InlineData("\"max_tokens\": 1e300", "max_tokens", "max_tokens is 1e300: give a whole number of at most 64 bits.")]
    [InlineData("\"max_tokens\": \"ten\"", "max_tokens", "max_tokens is the string \"ten\": give a whole number of at most 64 bits.")]
    [InlineData("\"max_tokens\": 1.5", "max_tokens", "max_tokens is 1.5: give a whole number of at most 64 bits.")]
    [InlineData("\"temperature\": \"NaN\"", "temperature", "temperature is the string \"NaN\": give a number.")]
    [InlineData("\"temperature\": -0.1", "temperature", "temperature is -0.1: give a number from 0 (greedy) to 2.")]
    [InlineData("\"temperature\": 1e999", "temperature", null)]
    [InlineData("\"top_p\": 0", "top_p", "top_p is 0: give a number above 0, at most 1.")]
    [InlineData("\"top_k\": -1", "top_k", "top_k is -1: give 0 (all tokens) or a positive number.")]
    [InlineData("\"n\": 1000000", "n", "n is 1000000, which is not supported: leave it out.")]
    [InlineData("\"stop\": [\"a\", \"b\", \"c\", \"d\", \"e\"]", "stop", "stop has 5 texts: give at most 4.")]
    [InlineData("\"stop\": [\"\"]", "stop", "a stop text has 0 characters: give 1 to 512.")]
    [InlineData("\"stop\": [7]", "stop", "stop is an array of 1: give a string, or an array of at most 4 strings.")]
    [InlineData("\"prompt\": 7", "prompt", "prompt is 7: give a string, or an array with one string.")]
    [InlineData("\"prompt\": [\"a\", \"b\"]", "prompt", "prompt is an array of 2: send one text a request.")]
    [InlineData("\"prompt\": \"\\ud800\"", "prompt", "prompt is not valid Unicode: it has half of a surrogate pair.")]
    [InlineData("\"stream\": 1", "stream", "stream is 1: give true or false.")]
    [InlineData("\"stream_options\": {\"include_usage\": true}", "stream_options", "stream_options goes with \"stream\": true only.")]
    [InlineData("\"logprobs\": 3", "logprobs", "logprobs is 3, which is not supported: leave it out.")]
    [InlineData("\"temprature\": 1", "temprature", null)]
    public async Task AWrongFieldIsNamedWithItsRemedy(string field, string parameter, string? message)
    {
        var (status, error) = await FailAsync($$"""{"model": "tiny", {{field}}}""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Equal("invalid_request_error", (string?)error["type"]);
        Assert.Equal(parameter, (string?)error["param"]);
        Assert.Equal(message ?? (string?)error["message"], (string?)error["message"]);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("[]")]
    [InlineData("{\"model\": NaN}")]
    [InlineData("{\"model\": \"tiny\", \"model\": \"tiny\"}")]
    public async Task ABodyThatIsNoJsonObjectIsRefused(string body) =>
        Assert.Equal(HttpStatusCode.BadRequest, (await FailAsync(body)).Status);

    [Fact]
    public async Task DeepAndLargeBodiesAreRefusedQuickly()
    {
        await FailAsync("{}");
        var watch = Stopwatch.StartNew();
        Assert.Equal(HttpStatusCode.BadRequest, (await FailAsync(new string('[', 100) + new string(']', 100))).Status);
        Assert.Equal(HttpStatusCode.BadRequest, (await FailAsync($$"""{"model": "tiny", "stop": [{{string.Join(',', Enumerable.Repeat("\"a\"", 10_000))}}]}""")).Status);
        Assert.Equal(HttpStatusCode.BadRequest, (await FailAsync($$"""{"model": "tiny", "prompt": "{{new string('a', 200_001)}}"}""")).Status);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(2), $"{watch.Elapsed}");
        var (status, error) = await FailAsync($$"""{"model": "tiny", "prompt": "{{new string('a', 10_000_000)}}"}""");
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, status);
        Assert.Equal("request_too_large", (string?)error["code"]);
    }

    [Fact]
    public async Task ABodyThatIsNotDeclaredAsJsonIsRefused()
    {
        using var content = new StringContent("{}", Encoding.UTF8, "text/plain");
        var response = await _gateway.Http.PostAsync("/v1/completions", content);
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, response.StatusCode);
    }

    [Fact]
    public async Task AnUnknownUrlIsAnErrorInTheSameShape()
    {
        var response = await _gateway.Http.GetAsync("/v1/chat/completions");
        Assert.Equal(HttpStatusCode.NotFound, response.StatusCode);
        Assert.Equal("unknown_url", (string?)JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error"]!["code"]);
    }

    private async Task<JsonNode> CompleteAsync(string body)
    {
        using var response = await PostAsync(body);
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, text);
        return JsonNode.Parse(text)!;
    }

    private async Task<(HttpStatusCode Status, JsonNode Error)> FailAsync(string body)
    {
        using var response = await PostAsync(body);
        var text = await response.Content.ReadAsStringAsync();
        Assert.False(response.IsSuccessStatusCode, text);
        return (response.StatusCode, JsonNode.Parse(text)!["error"]!);
    }

    private async Task<string[]> StreamAsync(string body)
    {
        using var response = await PostAsync(body);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
        var text = await response.Content.ReadAsStringAsync();
        Assert.EndsWith("\n\n", text, StringComparison.Ordinal);
        return [.. text.Split("\n\n", StringSplitOptions.RemoveEmptyEntries).Select(e => e["data: ".Length..])];
    }

    private async Task<HttpResponseMessage> PostAsync(string body)
    {
        using var content = new StringContent(body, Encoding.UTF8, "application/json");
        return await _gateway.Http.PostAsync("/v1/completions", content);
    }

    private static string TextOf(JsonNode answer) => string.Create(CultureInfo.InvariantCulture, $"{answer["choices"]![0]!["text"]}");
}
