using System.Security.Authentication;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using LlmPipeline.Cli.RunFiles;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Inference.V1;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli;

/// <summary>A connection to the Gateway, for one command.</summary>
internal sealed class Session : IDisposable
{
    private static readonly JsonFormatter Formatter = new(JsonFormatter.Settings.Default.WithPreserveProtoFieldNames(true));

    private readonly GrpcChannel _channel;

    public Session(CliEnvironment environment, string endpoint, TlsFiles tls, bool json)
    {
        if (!Uri.TryCreate(endpoint, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https"))
        {
            throw new RunFileException($"--endpoint {endpoint}: expected a URL, for example http://localhost:5081");
        }

        (Environment, Json) = (environment, json);
        _channel = GrpcChannel.ForAddress(uri, new GrpcChannelOptions
        {
            MaxReceiveMessageSize = 64 * 1024 * 1024,
            DisposeHttpClient = true,
            HttpHandler = new SocketsHttpHandler
            {
                SslOptions = tls.Read(),
                ConnectTimeout = TimeSpan.FromSeconds(5),
                KeepAlivePingDelay = TimeSpan.FromSeconds(15),
                KeepAlivePingTimeout = TimeSpan.FromSeconds(10),
            },
        });
        Runs = new RunService.RunServiceClient(_channel);
        Datasets = new DatasetService.DatasetServiceClient(_channel);
        Tokenizers = new TokenizerService.TokenizerServiceClient(_channel);
        Evaluations = new EvaluationService.EvaluationServiceClient(_channel);
        Inference = new InferenceService.InferenceServiceClient(_channel);
    }

    public CliEnvironment Environment { get; }

    public bool Json { get; }

    public RunService.RunServiceClient Runs { get; }

    public DatasetService.DatasetServiceClient Datasets { get; }

    public TokenizerService.TokenizerServiceClient Tokenizers { get; }

    public EvaluationService.EvaluationServiceClient Evaluations { get; }

    public InferenceService.InferenceServiceClient Inference { get; }

    /// <summary>Whether a call failed for want of a server, rather than by a server's answer.</summary>
    public static bool IsUnreachable(RpcException exception) => exception.StatusCode == StatusCode.Unavailable && exception.Status.DebugException is not null;

    /// <summary>Why a call failed while TLS was agreed on; null where it failed otherwise.</summary>
    public static string? TlsProblem(RpcException exception)
    {
        for (var cause = exception.Status.DebugException; cause is not null; cause = cause.InnerException)
        {
            if (cause is AuthenticationException)
            {
                return cause.Message;
            }
        }

        return null;
    }

    /// <summary>Turns an id into a name; a name stays as it is.</summary>
    public static string NameOf(string collection, string idOrName) => idOrName.Contains('/', StringComparison.Ordinal) ? idOrName : $"{collection}/{idOrName}";

    /// <summary>All items of a paged list.</summary>
    public static async Task<List<TItem>> ListAsync<TResponse, TItem>(Func<string, Task<TResponse>> page, Func<TResponse, IEnumerable<TItem>> items, Func<TResponse, string> next)
    {
        var all = new List<TItem>();
        var token = "";
        do
        {
            var response = await page(token);
            all.AddRange(items(response));
            token = next(response);
        }
        while (token.Length > 0);

        return all;
    }

    public void WriteLine(string text = "") => Environment.Out.WriteLine(TerminalText.Safe(text));

    public void WriteJson(IMessage message) => Environment.Out.WriteLine(Formatter.Format(message));

    public void WriteJson(IEnumerable<IMessage> messages) => Environment.Out.WriteLine($"[{string.Join(",\n", messages.Select(m => Formatter.Format(m)))}]");

    public void Dispose() => _channel.Dispose();
}
