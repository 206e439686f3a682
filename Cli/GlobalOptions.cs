using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;
using Grpc.Core;
using LlmPipeline.Cli.RunFiles;

namespace LlmPipeline.Cli;

/// <summary>Options of all commands, and what all commands do around their work.</summary>
internal sealed class GlobalOptions(CliEnvironment environment)
{
    public CliEnvironment Environment => environment;

    public Option<string> Endpoint { get; } = new("--endpoint")
    {
        Description = "gRPC address of the Gateway (environment variable LLMPIPE_ENDPOINT).",
        HelpName = "URL",
        Recursive = true,
        DefaultValueFactory = _ => environment.Variable("LLMPIPE_ENDPOINT") is { Length: > 0 } endpoint ? endpoint : "http://localhost:5081",
    };

    public Option<string> Authority { get; } = File(environment, "--authority", "LLMPIPE_AUTHORITY", "PEM file of the authorities that an https endpoint's certificate has to come from");

    public Option<string> Certificate { get; } = File(environment, "--certificate", "LLMPIPE_CERTIFICATE", "PEM file of the certificate to show to an https endpoint that asks for one");

    public Option<string> Key { get; } = File(environment, "--key", "LLMPIPE_KEY", "PEM file of that certificate's private key, if it is not in the same file");

    public Option<bool> Json { get; } = new("--json") { Description = "Print JSON, for programs.", Recursive = true };

    /// <summary>Makes a command do something with the server, and turns what goes wrong into messages and exit codes.</summary>
    public void SetAction(Command command, Func<ParseResult, Session, CancellationToken, Task<int>> action) => command.SetAction(async (result, cancellationToken) =>
    {
        var json = result.GetValue(Json);
        var endpoint = result.GetRequiredValue(Endpoint);
        try
        {
            using var session = new Session(environment, endpoint, new TlsFiles(result.GetValue(Authority), result.GetValue(Certificate), result.GetValue(Key)), json);
            return await action(result, session, cancellationToken);
        }
        catch (RunFileException exception)
        {
            return Fail(json, "INVALID_ARGUMENT", exception.Message, ExitCodes.BadInput);
        }
        catch (Exception exception) when (cancellationToken.IsCancellationRequested && exception is OperationCanceledException or RpcException { StatusCode: StatusCode.Cancelled })
        {
            return ExitCodes.Cancelled;
        }
        catch (RpcException exception) when (Session.TlsProblem(exception) is { } problem)
        {
            return Fail(json, "UNAVAILABLE", $"no secure connection to {endpoint}: {problem}. Name the authority that its certificate comes from with --authority FILE.", ExitCodes.Unreachable);
        }
        catch (RpcException exception) when (exception.StatusCode is StatusCode.Unavailable)
        {
            var secured = endpoint.StartsWith("https:", StringComparison.OrdinalIgnoreCase) ? ", or it wants a certificate to be shown (--certificate FILE, --key FILE)" : "";
            return Fail(json, "UNAVAILABLE", Session.IsUnreachable(exception)
                ? $"no server answers at {endpoint}{secured}. Start one with 'dotnet run --project AppHost', or name another with --endpoint URL."
                : exception.Status.Detail, ExitCodes.Unreachable);
        }
        catch (RpcException exception)
        {
            var code = exception.StatusCode is StatusCode.InvalidArgument or StatusCode.NotFound or StatusCode.AlreadyExists or StatusCode.FailedPrecondition or StatusCode.OutOfRange
                ? ExitCodes.BadInput
                : ExitCodes.Failed;
            var reason = exception.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason;
            return Fail(json, reason ?? JsonNamingPolicy.SnakeCaseUpper.ConvertName(exception.StatusCode.ToString()), exception.Status.Detail, code);
        }
    });

    /// <summary>Adds the options to a command and all below it.</summary>
    public void AddTo(Command root)
    {
        root.Add(Endpoint);
        root.Add(Authority);
        root.Add(Certificate);
        root.Add(Key);
        root.Add(Json);
    }

    private static Option<string> File(CliEnvironment environment, string name, string variable, string description) => new(name)
    {
        Description = $"{description} (environment variable {variable}).",
        HelpName = "FILE",
        Recursive = true,
        DefaultValueFactory = _ => environment.Variable(variable) is { Length: > 0 } file ? file : null!,
    };

    private int Fail(bool json, string reason, string message, int code)
    {
        if (json)
        {
            environment.Error.WriteLine(new JsonObject { ["error"] = new JsonObject { ["reason"] = reason, ["message"] = message } }.ToJsonString());
        }
        else
        {
            foreach (var line in message.Split('\n'))
            {
                environment.Error.WriteLine($"error: {TerminalText.Safe(line)}");
            }
        }

        return code;
    }
}
