using LlmPipeline.Bench;

// One command a figure: dotnet run -c Release --project bench -- NAME [arguments]
// Each prints a table, ends with "NAME: <figure> (goal <goal>)", exits 0 where the goal is met and 1 where not, and leaves
// its output under bench/results/.
return args switch
{
    ["quickstart", .. var rest] => await QuickStartBench.RunAsync(rest),
    ["ngram", .. var rest] => await NgramBench.RunAsync(rest),
    ["ngram-one", var data, var text, var order, var smoothing] => NgramBench.RunOne(data, text, order, smoothing),
    ["shakespeare-char", var text, .. var rest] => await ShakespeareCharBench.RunAsync(Path.GetFullPath(text), rest),
    _ => Usage(),
};

static int Usage()
{
    Console.Error.WriteLine("""
        Usage: dotnet run -c Release --project bench -- NAME [arguments]

          quickstart [WORKERS ...]          the README's quick start from a fresh clone, timed; default 2 1 3
          ngram [DATA FOLDER]               n-gram models against published losses, and what they cost; default LLMPIPELINE_TEST_DATA
          shakespeare-char TEXT [SEED ...]  validation loss of nanoGPT's character set-up on TEXT (Tiny Shakespeare); default 1 2 3
        """);
    return 2;
}
