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

    public Option<bool> Json { get; } = new("--json") { Description = "Print JSON, for programs.", Recursive = true };

    /// <summary>Makes a command do something with the server, and turns what goes wrong into messages and exit codes.</summary>
    public void SetAction(Command command, Func<ParseResult, Session, CancellationToken, Task<int>> action) => command.SetAction(async (result, cancellationToken) =>
    {
        var json = result.GetValue(Json);
        var endpoint = result.GetRequiredValue(Endpoint);
        try
        {
            using var session = new Session(environment, endpoint, json);
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
        catch (RpcException exception) when (exception.StatusCode is StatusCode.Unavailable)
        {
            return Fail(json, "UNAVAILABLE", Session.IsUnreachable(exception)
                ? $"no server answers at {endpoint}. Start one with 'dotnet run --project AppHost', or name another with --endpoint URL."
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
