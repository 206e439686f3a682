namespace LlmPipeline.Cli.Tests;

/// <summary>Calls the program in this process.</summary>
internal sealed class CliCall : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private readonly StringWriter _out = new();
    private readonly StringWriter _error = new();

    public string Directory { get; } = System.IO.Directory.CreateTempSubdirectory("llmpipeline-cli-").FullName;

    public Dictionary<string, string> Variables { get; } = [];

    public string Input { get; init; } = "";

    public string Output => _out.ToString();

    public string Error => _error.ToString();

    public Task<int> RunAsync(FakeGateway? gateway, params string[] args) => RunAsync(gateway, CancellationToken.None, args);

    public async Task<int> RunAsync(FakeGateway? gateway, CancellationToken cancellationToken, params string[] args)
    {
        var environment = new CliEnvironment
        {
            Out = TextWriter.Synchronized(_out),
            Error = TextWriter.Synchronized(_error),
            In = new StringReader(Input),
            IsTerminal = false,
            Directory = Directory,
            Variable = name => Variables.GetValueOrDefault(name),
            ProgressInterval = TimeSpan.Zero,
            Patience = TimeSpan.FromSeconds(5),
        };
        return await CommandLine.RunAsync(gateway is null ? args : [.. args, "--endpoint", gateway.Endpoint], environment, cancellationToken).WaitAsync(Limit, CancellationToken.None);
    }

    public string Write(string file, string text)
    {
        File.WriteAllText(Path.Combine(Directory, file), text);
        return file;
    }

    public void Dispose() => System.IO.Directory.Delete(Directory, recursive: true);
}
