using System.Net.Sockets;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Grpc.Net.Client;
using Grpc.Reflection.V1;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using Microsoft.AspNetCore.Builder;

namespace LlmPipeline.Gateway.Tests;

/// <summary>The services behind the Gateway, seen through it.</summary>
public sealed class ForwardingTests : IAsyncLifetime
{
    private readonly TemporaryFolder _storage = new();
    private readonly FakeRunService _runs = new();
    private WebApplication _trainer = null!;
    private GatewayHost _gateway = null!;
    private string _closedUrl = "";

    public async ValueTask InitializeAsync()
    {
        (_trainer, var url) = await _runs.StartAsync();
        using (var socket = new Socket(SocketType.Stream, ProtocolType.Tcp))
        {
            socket.Bind(new System.Net.IPEndPoint(System.Net.IPAddress.Loopback, 0));
            _closedUrl = $"http://127.0.0.1:{((System.Net.IPEndPoint)socket.LocalEndPoint!).Port}";
        }

        _gateway = await GatewayHost.StartAsync(_storage.Path, ("Trainer:Endpoint", url), ("Preprocessor:Endpoint", _closedUrl));
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _trainer.DisposeAsync();
        _storage.Dispose();
    }

    [Fact]
    public async Task ACallReachesItsOwnerWithItsHeadersAndComesBackWithItsTrailers()
    {
        var client = new RunService.RunServiceClient(_gateway.Channel);
        var request = new CreateRunRequest { RunId = "run-1", Spec = new RunSpec { Seed = 7 } };
        var run = (await client.CreateRunAsync(request, Options(new Metadata { { "x-test", "hello" } }))).Run;
        Assert.Equal("runs/run-1", run.Name);
        Assert.Equal(7, _runs.Runs["runs/run-1"].Spec.Seed);
        Assert.Equal("hello", _runs.LastClientHeader);

        var error = await Assert.ThrowsAsync<RpcException>(() => client.CreateRunAsync(request, Options()).ResponseAsync);
        Assert.Equal(StatusCode.AlreadyExists, error.StatusCode);
        Assert.Equal("'runs/run-1' exists.", error.Status.Detail);
        Assert.Equal("TAKEN", error.Trailers.GetValue("x-reason"));
    }

    [Fact]
    public async Task AStreamArrivesMessageByMessageAndACancellationReachesTheOwner()
    {
        _runs.Runs["runs/run-1"] = new Run { Name = "runs/run-1" };
        var client = new RunService.RunServiceClient(_gateway.Channel);
        using var leaving = new CancellationTokenSource(GatewayHost.Patience);
        using var watch = client.WatchRun(new WatchRunRequest { Name = "runs/run-1" }, cancellationToken: leaving.Token);
        Assert.True(await watch.ResponseStream.MoveNext(leaving.Token));
        Assert.Equal("runs/run-1", watch.ResponseStream.Current.Run.Name);
        await leaving.CancelAsync();
        await _runs.WatchCancelled.Task.WaitAsync(GatewayHost.Patience);
    }

    [Fact]
    public async Task AnOwnerBehindMutualTlsIsReachedWithTheGatewaysCertificateOnly()
    {
        using var authority = new TestAuthority();
        var (trainer, url) = await _runs.StartAsync(authority.Settings("trainer"));
        await using var _ = trainer;
        var address = $"https://localhost:{new Uri(url).Port}";
        await using (var gateway = await GatewayHost.StartAsync(_storage.Path, [("Trainer:Endpoint", address), .. authority.Settings("gateway").Select(s => (s.Key, (string?)s.Value))]))
        {
            // The Gateway itself asks for a certificate, too.
            using var channel = GrpcChannel.ForAddress(
                $"https://localhost:{new Uri(gateway.GrpcUrl).Port}", new GrpcChannelOptions { HttpHandler = new SocketsHttpHandler { SslOptions = authority.Client("tests") }, DisposeHttpClient = true });
            var run = (await new RunService.RunServiceClient(channel).CreateRunAsync(new CreateRunRequest { RunId = "secured" }, Options())).Run;
            Assert.Equal("runs/secured", run.Name);

            // The page's own calls go the same way.
            Assert.Contains("runs/secured", await gateway.Http.GetStringAsync("/api/runs"), StringComparison.Ordinal);
        }

        await using var stranger = await GatewayHost.StartAsync(_storage.Path, ("Trainer:Endpoint", address), ("Tls:Authority", authority.Settings("unused")[2].Value));
        var error = await Assert.ThrowsAsync<RpcException>(() => new RunService.RunServiceClient(stranger.Channel).ListRunsAsync(new ListRunsRequest(), Options()).ResponseAsync);
        Assert.Equal(StatusCode.Unavailable, error.StatusCode);
    }

    [Fact]
    public async Task AnOwnerThatDoesNotAnswerIsUnavailableByName()
    {
        var error = await Assert.ThrowsAsync<RpcException>(() =>
            new DatasetService.DatasetServiceClient(_gateway.Channel).ListDatasetsAsync(new ListDatasetsRequest(), Options()).ResponseAsync);
        Assert.Equal(StatusCode.Unavailable, error.StatusCode);
        Assert.Equal($"The Preprocessor at {_closedUrl} does not answer. Check that it runs, and try again.", error.Status.Detail);
        Assert.Equal("UNAVAILABLE", error.GetRpcStatus()!.GetDetail<Google.Rpc.ErrorInfo>()!.Reason);

        error = await Assert.ThrowsAsync<RpcException>(() =>
            new TokenizerService.TokenizerServiceClient(_gateway.Channel).EncodeAsync(new EncodeRequest(), Options()).ResponseAsync);
        Assert.Equal(StatusCode.Unavailable, error.StatusCode);
    }

    [Fact]
    public async Task AnOwnerWithoutAnAddressIsUnavailableWithTheSettingToMake()
    {
        var error = await Assert.ThrowsAsync<RpcException>(() =>
            new EvaluationService.EvaluationServiceClient(_gateway.Channel).ListEvaluationsAsync(new ListEvaluationsRequest(), Options()).ResponseAsync);
        Assert.Equal(StatusCode.Unavailable, error.StatusCode);
        Assert.Equal("The Gateway does not know where the Evaluator is: set Evaluator:Endpoint.", error.Status.Detail);
    }

    [Fact]
    public async Task AnOwnerThatDiesInAStreamEndsItWithAnError()
    {
        _runs.Runs["runs/run-1"] = new Run { Name = "runs/run-1" };
        var client = new RunService.RunServiceClient(_gateway.Channel);
        using var patience = new CancellationTokenSource(GatewayHost.Patience);
        using var watch = client.WatchRun(new WatchRunRequest { Name = "runs/run-1" }, cancellationToken: patience.Token);
        Assert.True(await watch.ResponseStream.MoveNext(patience.Token));
        using var now = new CancellationTokenSource();
        await now.CancelAsync();
        await _trainer.StopAsync(now.Token);
        var error = await Assert.ThrowsAsync<RpcException>(() => watch.ResponseStream.MoveNext(patience.Token));
        Assert.True(error.StatusCode is StatusCode.Unavailable or StatusCode.Internal or StatusCode.Cancelled, $"{error.StatusCode}");
        Assert.False(patience.IsCancellationRequested);
    }

    [Fact]
    public async Task InternalServicesAreNotForwarded()
    {
        var error = await Assert.ThrowsAsync<RpcException>(() => new Workers.V1.CoordinatorService.CoordinatorServiceClient(_gateway.Channel)
            .HeartbeatAsync(new Workers.V1.HeartbeatRequest(), Options()).ResponseAsync);
        Assert.Equal(StatusCode.Unimplemented, error.StatusCode);
    }

    [Fact]
    public async Task AClientThatKnowsNoProtosFindsRunServiceByReflectionAndSubmitsARun()
    {
        using var channel = GrpcChannel.ForAddress(_gateway.GrpcUrl);
        using var patience = new CancellationTokenSource(GatewayHost.Patience);
        using var call = new ServerReflection.ServerReflectionClient(channel).ServerReflectionInfo(cancellationToken: patience.Token);
        async Task<ServerReflectionResponse> AskAsync(ServerReflectionRequest request)
        {
            await call.RequestStream.WriteAsync(request, patience.Token);
            Assert.True(await call.ResponseStream.MoveNext(patience.Token));
            return call.ResponseStream.Current;
        }

        var services = (await AskAsync(new ServerReflectionRequest { ListServices = "" })).ListServicesResponse.Service.Select(s => s.Name).ToArray();
        string[] expected =
        [
            "llmpipeline.inference.v1.InferenceService",
            "llmpipeline.runs.v1.RunService",
            "llmpipeline.datasets.v1.DatasetService",
            "llmpipeline.datasets.v1.TokenizerService",
            "llmpipeline.evaluations.v1.EvaluationService",
        ];
        Assert.All(expected, name => Assert.Contains(name, services));

        // The file with the service, and all it imports, dependencies first.
        var files = new Dictionary<string, ByteString>();
        var order = new List<ByteString>();
        async Task CollectAsync(ServerReflectionRequest request)
        {
            foreach (var bytes in (await AskAsync(request)).FileDescriptorResponse.FileDescriptorProto)
            {
                var file = FileDescriptorProto.Parser.ParseFrom(bytes);
                if (files.TryAdd(file.Name, bytes))
                {
                    foreach (var import in file.Dependency.Where(d => !files.ContainsKey(d)))
                    {
                        await CollectAsync(new ServerReflectionRequest { FileByFilename = import });
                    }

                    order.Add(bytes);
                }
            }
        }

        await CollectAsync(new ServerReflectionRequest { FileContainingSymbol = "llmpipeline.runs.v1.RunService" });
        await call.RequestStream.CompleteAsync();
        var service = FileDescriptor.BuildFromByteStrings(order).SelectMany(f => f.Services).Single(s => s.FullName == "llmpipeline.runs.v1.RunService");
        var create = service.FindMethodByName("CreateRun");

        // The request is written field by field, with the numbers that the descriptors give.
        using var buffer = new MemoryStream();
        using (var output = new CodedOutputStream(buffer, leaveOpen: true))
        {
            output.WriteTag(create.InputType.FindFieldByName("run_id").FieldNumber, WireFormat.WireType.LengthDelimited);
            output.WriteString("by-reflection");
        }

        var bytesMarshaller = Marshallers.Create(b => b, b => b);
        var method = new Method<byte[], byte[]>(MethodType.Unary, service.FullName, create.Name, bytesMarshaller, bytesMarshaller);
        var answer = await channel.CreateCallInvoker().AsyncUnaryCall(method, null, Options(), buffer.ToArray());
        Assert.Contains("runs/by-reflection", _runs.Runs.Keys);
        Assert.Equal("runs/by-reflection", CreateRunResponse.Parser.ParseFrom(answer).Run.Name);
    }

    [Fact]
    public async Task TheOlderReflectionProtocolIsThereToo()
    {
        using var patience = new CancellationTokenSource(GatewayHost.Patience);
        using var call = new Grpc.Reflection.V1Alpha.ServerReflection.ServerReflectionClient(_gateway.Channel).ServerReflectionInfo(cancellationToken: patience.Token);
        await call.RequestStream.WriteAsync(new() { ListServices = "" }, patience.Token);
        Assert.True(await call.ResponseStream.MoveNext(patience.Token));
        Assert.Contains("llmpipeline.runs.v1.RunService", call.ResponseStream.Current.ListServicesResponse.Service.Select(s => s.Name));
        await call.RequestStream.CompleteAsync();
    }

    private static CallOptions Options(Metadata? headers = null) => new(headers, DateTime.UtcNow + GatewayHost.Patience);
}
