using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using Microsoft.AspNetCore.Builder;

namespace LlmPipeline.ServiceDefaults.Tests;

public sealed class ErrorInterceptorTests
{
    public static TheoryData<string, StatusCode, string?, string> Mappings => new()
    {
        { "argument", StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "Give more steps." },
        { "name", StatusCode.InvalidArgument, ErrorReasons.InvalidName, "'x' is no name." },
        { "corrupt", StatusCode.DataLoss, ErrorReasons.CorruptData, "'models/x/manifest.json' is damaged." },
        { "cancelled", StatusCode.Cancelled, null, "The call was cancelled." },
        { "bug", StatusCode.Internal, ErrorReasons.Internal, "The service's log says why." },
        { "rpc", StatusCode.NotFound, ErrorReasons.NotFound, "'runs/gone' does not exist." },
    };

    [Theory]
    [MemberData(nameof(Mappings))]
    public async Task UnaryCallsGetCanonicalErrors(string failure, StatusCode code, string? reason, string message)
    {
        await using var service = await StartAsync();
        var client = new RunService.RunServiceClient(service.Grpc);

        var error = await Assert.ThrowsAsync<RpcException>(async () =>
            await client.GetRunAsync(new GetRunRequest { Name = failure }, deadline: Deadline));

        AssertError(error, code, reason, message);
    }

    [Theory]
    [MemberData(nameof(Mappings))]
    public async Task StreamsGetCanonicalErrors(string failure, StatusCode code, string? reason, string message)
    {
        await using var service = await StartAsync();
        var client = new RunService.RunServiceClient(service.Grpc);
        using var call = client.WatchRun(new WatchRunRequest { Name = failure }, deadline: Deadline);

        var error = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext());

        AssertError(error, code, reason, message);
    }

    [Fact]
    public async Task DetailsOfUnexpectedErrorsStayInTheService()
    {
        await using var service = await StartAsync();
        var client = new RunService.RunServiceClient(service.Grpc);

        var error = await Assert.ThrowsAsync<RpcException>(async () =>
            await client.GetRunAsync(new GetRunRequest { Name = "bug" }, deadline: Deadline));

        Assert.DoesNotContain("secret", error.ToString(), StringComparison.Ordinal);
    }

    private static DateTime Deadline => DateTime.UtcNow + TestService.Patience;

    private static Task<TestService> StartAsync() =>
        TestService.StartAsync(builder => builder.Services.AddLlmPipelineGrpc(), app => app.MapGrpcService<FailingRuns>());

    private static void AssertError(RpcException error, StatusCode code, string? reason, string message)
    {
        Assert.Equal(code, error.StatusCode);
        Assert.Contains(message, error.Status.Detail, StringComparison.Ordinal);
        Assert.DoesNotContain("Parameter", error.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(reason, error.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason);
    }

    private sealed class FailingRuns : RunService.RunServiceBase
    {
        public override Task<GetRunResponse> GetRun(GetRunRequest request, ServerCallContext context) => throw Failure(request.Name);

        public override async Task WatchRun(
            WatchRunRequest request, IServerStreamWriter<WatchRunResponse> responseStream, ServerCallContext context)
        {
            await Task.Yield();
            throw Failure(request.Name);
        }

        private static Exception Failure(string name) => name switch
        {
            "argument" => new ArgumentOutOfRangeException(nameof(name), "Give more steps."),
            "name" => new InvalidResourceNameException("'x' is no name."),
            "corrupt" => new CorruptDirectoryException("'models/x/manifest.json' is damaged."),
            "cancelled" => new OperationCanceledException(),
            "rpc" => RpcErrors.Create(StatusCode.NotFound, ErrorReasons.NotFound, "'runs/gone' does not exist."),
            _ => new InvalidDataException("secret path /home/someone"),
        };
    }
}
