using System.Net;
using System.Text;
using System.Text.Json;
using LlmPipeline.Fakes;
using LlmPipeline.Gateway.Rest;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Gateway.Tests;

/// <summary>Bodies that are large, or do not come whole.</summary>
public sealed class UploadTests
{
    [Fact]
    public async Task ABodyIsTakenUpToTheSettingsLimit()
    {
        using var storage = new TemporaryFolder();
        await TinyModel.PublishAsync(storage.Path);
        await using var gateway = await GatewayHost.StartAsync(storage.Path, ("Gateway:MaxBodyBytes", "20000000"));
        using var content = new StringContent(new string(' ', 17 << 20) + """{"model": "tiny", "prompt": "a", "max_tokens": 1}""", Encoding.UTF8, "application/json");
        using var answer = await gateway.Http.PostAsync("/v1/completions", content);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
    }

    [Theory]
    [InlineData(StatusCodes.Status400BadRequest, "unreadable_body")]
    [InlineData(StatusCodes.Status408RequestTimeout, "unreadable_body")]
    [InlineData(StatusCodes.Status413PayloadTooLarge, "request_too_large")]
    public async Task WhatTheServerRefusesHasItsOwnStatus(int status, string code)
    {
        var (context, log) = await UploadAsync(new BadHttpRequestException("Not so.", status));
        Assert.Equal(status, context.Response.StatusCode);
        Assert.Contains(code, Encoding.UTF8.GetString(((MemoryStream)context.Response.Body).ToArray()), StringComparison.Ordinal);
        Assert.Empty(log);
    }

    [Fact]
    public async Task AnUploadThatBreaksOffIsNoError()
    {
        var (context, log) = await UploadAsync(new IOException("The client reset the request stream."));
        Assert.Equal(0, context.Response.Body.Length);
        Assert.Empty(log);
    }

    private static async Task<(HttpContext Context, List<LogLevel> Log)> UploadAsync(Exception failure)
    {
        var context = new DefaultHttpContext();
        context.Request.ContentType = "application/json";
        context.Request.Body = new BrokenBody(failure);
        context.Response.Body = new MemoryStream();
        var logger = new RecordingLogger();
        await new Endpoint(logger).HandleAsync(context).WaitAsync(GatewayHost.Patience);
        return (context, logger.Levels);
    }

    private sealed class Endpoint(ILogger logger) : JsonEndpoint(Options.Create(new GatewayOptions()), logger)
    {
        protected override Task AnswerAsync(HttpContext context, JsonElement body) => throw new InvalidOperationException("There is no body to answer.");
    }

    private sealed class BrokenBody(Exception failure) : MemoryStream
    {
        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => ValueTask.FromException<int>(failure);
    }

    private sealed class RecordingLogger : ILogger
    {
        public List<LogLevel> Levels { get; } = [];

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => Levels.Add(logLevel);
    }
}
