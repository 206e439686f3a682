using FsCheck;
using FsCheck.Fluent;
using LlmPipeline.Cli.Commands;
using LlmPipeline.Cli.RunFiles;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli.Tests;

public sealed class RunFileTests
{
    [Fact]
    public void KeysFillTheSpec()
    {
        var spec = Read("""
            dataset:
              sources: ["dotnet-docs:", books/]
              cleaning: { whitespace: true }
              split:
                validation_fraction: 1e-1
            model:
              preset: gpt-tiny
              bias: false
            training:
              steps: 50
            seed: -3
            publish: {}
            optimizer:
            """);

        Assert.Equal(["dotnet-docs:", "books/"], spec.Dataset.Sources);
        Assert.True(spec.Dataset.Cleaning.Whitespace);
        Assert.Equal(0.1, spec.Dataset.Split.ValidationFraction);
        Assert.Equal("gpt-tiny", spec.Model.Preset);
        Assert.True(spec.Model is { HasBias: true, Bias: false, HasLayers: false });
        Assert.Equal(50, spec.Training.Steps);
        Assert.Equal(-3, spec.Seed);
        Assert.Null(spec.Evaluation);
    }

    [Theory]
    [InlineData("modle: {}", "run.yaml:1:1: unknown key 'modle' at the top level; did you mean 'model'?")]
    [InlineData("training:\n  stpes: 5", "run.yaml:2:3: unknown key 'stpes' in 'training'; did you mean 'steps'?")]
    [InlineData("steps: 5", "run.yaml:1:1: unknown key 'steps' at the top level; did you mean 'training.steps' or 'training.local.steps'?")]
    [InlineData("model:\n  learning_rate: 1", "run.yaml:2:3: unknown key 'learning_rate' in 'model'; did you mean 'optimizer.learning_rate'?")]
    [InlineData("zzz: 5", "run.yaml:1:1: unknown key 'zzz' at the top level; keys here are dataset, dataset_name, model, optimizer, training, evaluation, publish, seed")]
    [InlineData("training:\n  steps: many", "run.yaml:2:10: 'training.steps' expects a whole number, found 'many'")]
    [InlineData("training:\n  steps: \"5\"", "run.yaml:2:10: 'training.steps' expects a whole number, found the text \"5\"")]
    [InlineData("training:\n  steps: 1.5", "run.yaml:2:10: 'training.steps' expects a whole number, found '1.5'")]
    [InlineData("training:\n  batch_size: 3000000000", "run.yaml:2:15: 'training.batch_size' expects a whole number, found '3000000000'")]
    [InlineData("training:\n  steps:", "run.yaml:2:9: 'training.steps' expects a whole number, found nothing")]
    [InlineData("training:\n  steps: [5]", "run.yaml:2:10: 'training.steps' expects a whole number, found a list")]
    [InlineData("optimizer:\n  learning_rate: .nan", "run.yaml:2:18: 'optimizer.learning_rate' expects a number, found '.nan'")]
    [InlineData("model:\n  bias: yes", "run.yaml:2:9: 'model.bias' expects true or false, found 'yes'")]
    [InlineData("model: gpt-tiny", "run.yaml:1:8: 'model' expects keys with values, found 'gpt-tiny'; keys are preset,")]
    [InlineData("dataset:\n  sources: books/", "run.yaml:2:12: 'dataset.sources' expects a list, found 'books/'; write [a, b]")]
    [InlineData("dataset:\n  sources:\n    - dotnet-docs:", "run.yaml:3:7: 'dataset.sources' expects a text, found keys with values; put a text that ends in ':' into quotes: \"dotnet-docs:\"")]
    [InlineData("- a", "run.yaml:1:1: a run file expects keys with values, found a list; keys are dataset,")]
    [InlineData("seed: 1\nseed: 2", "run.yaml:2:1: ")]
    [InlineData("seed: [1", "run.yaml:")]
    [InlineData("seed: 1\n---\nseed: 2", "run.yaml:3:1: a second document")]
    [InlineData("a: &x [*x]", "run.yaml:1:")]
    public void AMistakeIsNamedWithItsPlaceAndARemedy(string yaml, string expected) =>
        Assert.StartsWith(expected, Assert.Throws<RunFileException>(() => Read(yaml)).Message, StringComparison.Ordinal);

    [Fact]
    public void AllMistakesAreNamedAtOnce()
    {
        var lines = Assert.Throws<RunFileException>(() => Read("modle: {}\ntraining:\n  steps: x\n  batch_size: 4\nseed: true")).Message.Split('\n');

        Assert.Equal(["run.yaml:1:1", "run.yaml:3:10", "run.yaml:5:7"], lines.Select(l => string.Join(':', l.Split(':')[..3])));
    }

    [Fact]
    public void OptionsGoOverTheFile()
    {
        var spec = Read("dataset:\n  sources: [a, b]\ntraining:\n  steps: 5\n  batch_size: 4");
        Overrides.Apply(["training.steps=7", "model.preset=gpt-nano", "training.steps=8", "dataset.sources=dotnet-docs:", "dataset.sources=c=d", "model.bias=false", "optimizer.learning_rate=1e-3"], spec);

        Assert.Equal((8L, 4), (spec.Training.Steps, spec.Training.BatchSize));
        Assert.Equal(["dotnet-docs:", "c=d"], spec.Dataset.Sources);
        Assert.Equal(("gpt-nano", false, 1e-3), (spec.Model.Preset, spec.Model.Bias, spec.Optimizer.LearningRate));
        Overrides.Apply(["dataset.sources=[x, y ,z]"], spec);
        Assert.Equal(["x", "y", "z"], spec.Dataset.Sources);
        Overrides.Apply(["dataset.sources=[]"], spec);
        Assert.Empty(spec.Dataset.Sources);
    }

    [Theory]
    [InlineData("training.stpes=5", "--set training.stpes=5: unknown key 'stpes' in 'training'; did you mean 'steps'?")]
    [InlineData("steps=5", "--set steps=5: unknown key 'steps' at the top level; did you mean 'training.steps' or 'training.local.steps'?")]
    [InlineData("training.steps=x", "--set training.steps=x: 'training.steps' expects a whole number, found 'x'")]
    [InlineData("training=5", "--set training=5: 'training' has keys of its own: steps,")]
    [InlineData("seed.x=5", "--set seed.x=5: 'seed' expects a whole number and has no keys")]
    [InlineData("dataset.sources.x=5", "--set dataset.sources.x=5: 'dataset.sources' expects a list and has no keys")]
    [InlineData("dataset.mixture.label=x", "--set dataset.mixture.label=x: 'dataset.mixture' expects a list and has no keys")]
    [InlineData("dataset.mixture=x", "--set dataset.mixture=x: 'dataset.mixture' is a list of keys with values")]
    [InlineData("steps", "--set steps: expected KEY=VALUE")]
    [InlineData("=5", "--set =5: expected KEY=VALUE")]
    [InlineData("a..b=5", "--set a..b=5: unknown key 'a'")]
    public void AWrongOptionIsNamed(string option, string expected) =>
        Assert.StartsWith(expected, Assert.Throws<RunFileException>(() => Overrides.Apply([option], new RunSpec())).Message, StringComparison.Ordinal);

    [Fact]
    public void WhatIsWrittenReadsBackTheSame() =>
        Prop.ForAll(Arb.From(Specs), spec =>
        {
            var yaml = YamlMessageWriter.Write(spec);
            Assert.Equal(spec, Read(yaml));
            Assert.DoesNotContain('\r', yaml);
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(1000));

    /// <summary>All but the one of a dataset.</summary>
    public static TheoryData<string> Samples => [.. Directory.EnumerateFiles(SamplesFolder, "*.yaml", SearchOption.AllDirectories)
        .Select(file => Path.GetRelativePath(SamplesFolder, file)).Where(file => file != "mixture.yaml").Order(StringComparer.Ordinal)];

    private static string SamplesFolder => Path.Combine(AppContext.BaseDirectory, "samples");

    [Theory]
    [MemberData(nameof(Samples))]
    public void SamplesAreRunFiles(string sample)
    {
        var spec = RunFile.Load(Path.Combine(SamplesFolder, sample), sample == "dotnet-docs.yaml" ? [] : [$"dataset.sources={SamplesFolder}"], SamplesFolder);

        Assert.NotNull(spec.Model);
    }

    [Fact]
    public void TheSamplesOfOtherTrainingSayWhatItIs()
    {
        var lora = Sample("lora.yaml").FineTune;
        Assert.Equal(("models/my-books", "lora", 8, true), (lora.Base, lora.Method, lora.Lora.Rank, lora.Lora.Merge));
        var continued = Sample("continued.yaml").FineTune;
        Assert.Equal(("models/my-books", "full", "datasets/my-books"), (continued.Base, continued.Method, continued.OldDataset));
        Assert.Equal(("llama-tiny", "masked"), (Sample("masked.yaml").Model.Preset, Sample("masked.yaml").Model.Objective));

        static RunSpec Sample(string file) => RunFile.Load(Path.Combine(SamplesFolder, file), [$"dataset.sources={SamplesFolder}"], SamplesFolder);
    }

    [Fact]
    public void TheSampleOfAMixtureIsADatasetFile()
    {
        using var call = new CliCall();
        call.Write("README.md", "x");
        Directory.CreateDirectory(Path.Combine(call.Directory, "docs"));
        call.Write("docs/a.md", "x");
        var sample = Path.Combine(AppContext.BaseDirectory, "samples", "mixture.yaml");
        var spec = RunFile.LoadDataset(sample, [], ["max_tokens=5"], call.Directory);
        Assert.Equal([("readme", 3.0), ("docs", 1.0)], spec.Mixture.Select(p => (p.Label, p.Weight)));
        Assert.Equal([Path.Combine(call.Directory, "README.md"), Path.Combine(call.Directory, "docs", "*.md")], spec.Mixture.SelectMany(p => p.Sources));
        Assert.Equal((5L, "redact", 0.7), (spec.MaxTokens, spec.Cleaning.PersonalData.Action, spec.Tokenizer.Balance));

        var again = new DatasetSpec();
        YamlMessageReader.Read("again.yaml", YamlMessageWriter.Write(spec), again);
        Assert.Equal(spec, again);
        Assert.StartsWith("a.yaml:3:5: unknown key 'wieght' in 'mixture[1]'", Assert.Throws<RunFileException>(
            () => YamlMessageReader.Read("a.yaml", "mixture:\n  - sources: [a]\n  - wieght: 2", again)).Message, StringComparison.Ordinal);
        var other = RunFile.LoadDataset(sample, ["docs"], [], call.Directory);
        Assert.Equal([Path.Combine(call.Directory, "docs")], other.Sources);
        Assert.Empty(other.Mixture);
        Assert.Contains("no text is named", Assert.Throws<RunFileException>(() => RunFile.LoadDataset(null, [], [], call.Directory)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TheSampleOfTheQuickStartIsTheQuickStart()
    {
        var spec = RunFile.Load(Path.Combine(AppContext.BaseDirectory, "samples", "dotnet-docs.yaml"), [], "/");

        Assert.Equal(QuickstartCommand.Spec("dotnet-docs:", 150, 1), spec);
    }

    [Fact]
    public void SourcesBecomeAbsoluteAndMustExist()
    {
        using var call = new CliCall();
        Directory.CreateDirectory(Path.Combine(call.Directory, "books", "old"));
        call.Write("books/a.txt", "x");

        foreach (var source in new[] { "books", "books/a.txt", "books/*.txt", "books/**/*.md", "*", "./books/../books" })
        {
            Assert.Equal(Path.GetFullPath(Path.Combine(call.Directory, source)), RunFile.Resolve(source, call.Directory));
        }

        Assert.Equal("dotnet-docs:", RunFile.Resolve("dotnet-docs:", call.Directory));
        Assert.Equal("https://example.com/x", RunFile.Resolve("https://example.com/x", call.Directory));
        foreach (var source in new[] { "none", "books/b.txt", "none/*.txt", "", "/none/at/all" })
        {
            Assert.Contains($"'{source}' does not exist", Assert.Throws<RunFileException>(() => RunFile.Resolve(source, call.Directory)).Message, StringComparison.Ordinal);
        }
    }

    private static Gen<RunSpec> Specs =>
        from sources in Gen.ArrayOf(Texts)
        from numbers in Gen.ArrayOf(ArbMap.Default.GeneratorFor<NormalFloat>(), 3)
        from steps in ArbMap.Default.GeneratorFor<long>()
        from layers in ArbMap.Default.GeneratorFor<int>()
        from flag in ArbMap.Default.GeneratorFor<bool?>()
        from text in Texts
        select Make(sources, numbers, steps, layers, flag, text);

    private static Gen<string> Texts => Gen.OneOf(
        ArbMap.Default.GeneratorFor<NonNull<string>>().Select(s => WithoutLoneSurrogates(s.Get)),
        Gen.Elements("", " ", "a: b", "- x", "'", "\"", "\\", "#x", "null", "~", "true", "1e5", "0x1", "a\nb", "\u0085\u2028\ufeff", "\U0001F600", "@a", "%x", "[a]", "{a}", "*a", "&a", "!a", "|", ">", "a #b", "/abs/path.txt", "dotnet-docs:"));

    private static string WithoutLoneSurrogates(string text) => System.Text.Encoding.UTF8.GetString(System.Text.Encoding.UTF8.GetBytes(text));

    private static RunSpec Make(string[] sources, NormalFloat[] numbers, long steps, int layers, bool? flag, string text)
    {
        var spec = new RunSpec
        {
            Dataset = new() { Sources = { sources }, TextField = text, Split = new() { ValidationFraction = numbers[0].Get } },
            Model = new() { Layers = layers, Dropout = numbers[1].Get },
            Optimizer = new() { LearningRate = numbers[2].Get },
            Training = new() { Steps = steps },
            Publish = new(),
            Seed = steps / 3,
        };
        if (flag is { } bias)
        {
            spec.Model.Bias = bias;
            spec.DatasetName = text;
        }

        return spec;
    }

    private static RunSpec Read(string yaml)
    {
        var spec = new RunSpec();
        YamlMessageReader.Read("run.yaml", yaml, spec);
        return spec;
    }
}
