namespace LlmPipeline.Models.Tests;

public sealed class GenerationTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void CachedLogitsEqualTheFullForwardPass(int batch)
    {
        using var model = TestModels.Create();
        var ids = TestModels.RandomIds(batch * 12, 1);
        foreach (int[] steps in (int[][])[[12], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [5, 1, 4, 2], [1, 11], [11, 1]])
        {
            using var state = model.BeginGeneration(batch);
            var logits = new float[batch * 29];
            foreach (var step in steps)
            {
                var start = state.Length;
                state.Append([.. Enumerable.Range(0, batch).SelectMany(b => ids.AsSpan((12 * b) + start, step).ToArray())], logits);
                var length = start + step;
                Assert.Equal(length, state.Length);
                var full = TestModels.ForwardLogits(model, [.. Enumerable.Range(0, batch).SelectMany(b => ids.AsSpan(12 * b, length).ToArray())], batch);
                for (var b = 0; b < batch; b++)
                {
                    for (var v = 0; v < 29; v++)
                    {
                        Assert.Equal(full[(((b * length) + length - 1) * 29) + v], logits[(b * 29) + v], 1e-5);
                    }
                }
            }
        }
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("llama")]
    [InlineData("rnn")]
    [InlineData("lstm")]
    [InlineData("gru")]
    [InlineData("feed-forward")]
    public void ReadingAndWritingChangeNoParameter(string architecture)
    {
        using var model = TestModels.Create(architecture switch
        {
            "gpt2" => TestModels.Tiny,
            "llama" => TestModels.TinyLlama,
            _ => new ModelConfig { Architecture = architecture, VocabularySize = 29, Layers = 2, Width = 16, Context = 12, EndOfTextId = 28, Tied = false, Window = architecture == "feed-forward" ? 3 : 0 },
        });
        var before = model.Parameters.Values.ToArray();
        foreach (var batch in (int[])[1, 2])
        {
            using var state = model.BeginGeneration(batch);
            var logits = new float[batch * 29];
            foreach (var length in (int[])[1, 1, 4])
            {
                state.Append(TestModels.RandomIds(batch * length, length), logits);
            }

            model.Evaluate(TestModels.RandomIds(batch, 3), TestModels.RandomIds(batch, 4), batch);
            model.Evaluate(TestModels.RandomIds(12 * batch, 5), TestModels.RandomIds(12 * batch, 6), batch);
        }

        Assert.Equal(before, model.Parameters.Values.ToArray());
    }

    [Fact]
    public void AppendRefusesWhatDoesNotFit()
    {
        using var model = TestModels.Create();
        using var state = model.BeginGeneration(2);
        var logits = new float[58];
        Assert.Throws<ArgumentException>(() => state.Append([1, 2, 3], logits));
        Assert.Throws<ArgumentException>(() => state.Append([], logits));
        Assert.Throws<ArgumentException>(() => state.Append([1, 2], new float[29]));
        Assert.Throws<ArgumentException>(() => state.Append([1, 29], logits));
        state.Append(TestModels.RandomIds(24, 1), logits);
        Assert.Contains("12 of the context's 12", Assert.Throws<ArgumentException>(() => state.Append([1, 2], logits)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => model.BeginGeneration(0));
    }

    [Fact]
    public void GreedyTextIsTheMostLikelyIdAtEachStep()
    {
        using var model = TestModels.Create();
        int[][] prompts = [[1, 2, 3], [4, 5, 6], [27, 0, 3]];
        var texts = Generation.GenerateGreedy(model, prompts, 9);
        var single = prompts.Select(p => Generation.GenerateGreedy(model, [p], 9)[0]).ToArray();
        Assert.Equal(single, texts);
        foreach (var (prompt, text) in prompts.Zip(texts))
        {
            var ids = prompt.ToList();
            foreach (var id in text)
            {
                Assert.Equal(Sampler.Greedy(TestModels.ForwardLogits(model, [.. ids], 1).AsSpan((ids.Count - 1) * 29, 29)), id);
                ids.Add(id);
            }
        }

        Assert.Throws<ArgumentException>(() => Generation.GenerateGreedy(model, prompts, 10));
        Assert.Throws<ArgumentException>(() => Generation.GenerateGreedy(model, [[1], [1, 2]], 2));
        Assert.Empty(Generation.GenerateGreedy(model, [], 2));
    }

    [Fact]
    public void TemperatureZeroIsGreedyAndStopsAtEndOfText()
    {
        using var model = TestModels.Create();
        var greedy = Generation.GenerateGreedy(model, [[1, 2, 3]], 9)[0];
        var expected = greedy.TakeWhile(id => id != 28);
        Assert.Equal(expected, Generation.Generate(model, [1, 2, 3], 9, new SamplingOptions { Temperature = 0 }));

        using var stopping = TestModels.Create(TestModels.Tiny with { EndOfTextId = greedy[4] });
        Assert.Equal(greedy[..Array.IndexOf(greedy, greedy[4])], Generation.Generate(stopping, [1, 2, 3], 9, new SamplingOptions { Temperature = 0 }));
    }

    [Fact]
    public void EveryPromptBeginsWithTheModelsOwnBeginOfText()
    {
        var greedy = new SamplingOptions { Temperature = 0 };
        using var plain = TestModels.Create(TestModels.TinyLlama);
        using var model = TestModels.Create(TestModels.TinyLlama with { BeginOfTextId = 7 });
        var expected = Generation.Generate(plain, [7, 1, 2, 3], 8, greedy).ToArray();
        Assert.Equal(expected, Generation.Generate(model, [1, 2, 3], 8, greedy));
        Assert.Equal(expected, Generation.Generate(model, [7, 1, 2, 3], 8, greedy));
        Assert.NotEqual(expected, Generation.Generate(plain, [1, 2, 3], 8, greedy));
        Assert.Equal(Generation.Generate(plain, [7], 8, greedy), Generation.Generate(model, [], 8, greedy));
    }

    [Fact]
    public void BeyondTheContextTheWindowSlides()
    {
        using var model = TestModels.Create();
        var options = new SamplingOptions { Seed = 3, TopK = 20 };
        var text = Generation.Generate(model, TestModels.RandomIds(40, 2), 100, options).ToArray();
        Assert.Equal(text, Generation.Generate(model, TestModels.RandomIds(40, 2)[^12..], 100, options));

        // Greedy, by hand: a full window begins again with its newest half.
        var window = TestModels.RandomIds(12, 4).ToList();
        var expected = new List<int>();
        using var endless = TestModels.Create(TestModels.Tiny with { VocabularySize = 30, EndOfTextId = 29 });
        for (var n = 0; n < 30; n++)
        {
            var id = Sampler.Greedy(TestModels.ForwardLogits(endless, [.. window], 1).AsSpan((window.Count - 1) * 30, 30));
            if (id == 29)
            {
                break;
            }

            expected.Add(id);
            var full = window.Count == 12;
            window.Add(id);
            if (full)
            {
                window.RemoveRange(0, window.Count - 6);
            }
        }

        Assert.Equal(expected, Generation.Generate(endless, TestModels.RandomIds(12, 4), 30, new SamplingOptions { Temperature = 0 }));
        Assert.True(expected.Count > 12, $"{expected.Count} ids do not slide the window");
    }

    [Fact]
    public void SeedsMakeTextsAndNothingElseDoes()
    {
        using var model = TestModels.Create(scale: 1);
        int[] Text(long seed) => [.. Generation.Generate(model, [1, 2], 40, new SamplingOptions { Seed = seed })];
        Assert.Equal(Text(1), Text(1));
        Assert.NotEqual(Text(1), Text(2));
    }

    [Fact]
    public void AnEmptyPromptBeginsAfterEndOfText()
    {
        using var model = TestModels.Create();
        var options = new SamplingOptions { Temperature = 0 };
        Assert.Equal(Generation.Generate(model, [28], 5, options), Generation.Generate(model, [], 5, options));
        Assert.Empty(Generation.Generate(model, [], 0, options));
    }

    [Fact]
    public void ArgumentsAreCheckedAtTheCall()
    {
        using var model = TestModels.Create();
        Assert.Throws<ArgumentOutOfRangeException>(() => Generation.Generate(model, [1], -1, new SamplingOptions()));
        Assert.Throws<ArgumentException>(() => Generation.Generate(model, [1], 1, new SamplingOptions { Temperature = double.NaN }));
        Assert.Throws<ArgumentException>(() => Generation.Generate(model, [1], 1, new SamplingOptions { TopP = 0 }));
        Assert.Throws<ArgumentException>(() => Generation.Generate(model, [1], 1, new SamplingOptions { TopK = -1 }));
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.Throws<OperationCanceledException>(() => Generation.Generate(model, [1], 1, new SamplingOptions(), cancelled.Token).ToList());
    }
}
