using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace LlmPipeline.Text.Tests.Sources;

/// <summary>An HTTP server on this machine that answers what a test says, also what no good server would.</summary>
internal sealed class RemoteServer : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly Func<RemoteRequest, RemoteAnswer> _answer;

    public RemoteServer(Func<RemoteRequest, RemoteAnswer> answer)
    {
        _answer = answer;
        _listener.Start();
        _ = AcceptAsync();
    }

    public ConcurrentQueue<RemoteRequest> Requests { get; } = new();

    public string Address => $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

    public void Dispose()
    {
        _stop.Cancel();
        _listener.Dispose();
        _stop.Dispose();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                _ = ServeAsync(await _listener.AcceptTcpClientAsync(_stop.Token));
            }
        }
        catch (Exception exception) when (exception is OperationCanceledException or SocketException or ObjectDisposedException)
        {
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        using var owned = client;
        try
        {
            var stream = client.GetStream();
            using var reader = new StreamReader(stream, Encoding.ASCII, leaveOpen: true);
            var path = (await reader.ReadLineAsync(_stop.Token))!.Split(' ')[1];
            var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
            while (await reader.ReadLineAsync(_stop.Token) is { Length: > 0 } line)
            {
                headers[line.Split(':', 2)[0]] = line.Split(':', 2)[1].Trim();
            }

            var request = new RemoteRequest(path, headers);
            Requests.Enqueue(request);
            var answer = _answer(request);
            var head = $"HTTP/1.1 {answer.Status} X\r\nContent-Length: {answer.DeclaredLength ?? answer.Body.Length}\r\nConnection: close\r\n{string.Concat(answer.Headers.Select(h => h + "\r\n"))}\r\n";
            await stream.WriteAsync(Encoding.UTF8.GetBytes(head), _stop.Token);
            await stream.WriteAsync(answer.Body.AsMemory(0, Math.Min(answer.CutAfter, answer.Body.Length)), _stop.Token);
        }
        catch (Exception exception) when (exception is IOException or OperationCanceledException or SocketException or ObjectDisposedException)
        {
        }
    }
}

/// <summary>What was asked.</summary>
internal sealed record RemoteRequest(string Path, Dictionary<string, string> Headers)
{
    /// <summary>The first byte asked for; 0 for all.</summary>
    public int From => Headers.TryGetValue("Range", out var range) ? int.Parse(range["bytes=".Length..].Split('-')[0], null) : 0;

    /// <summary>Whether the request only asks what there is.</summary>
    public bool IsProbe => Headers.GetValueOrDefault("Range") == "bytes=0-0";
}

/// <summary>What is answered.</summary>
internal sealed record RemoteAnswer(int Status, byte[] Body, params string[] Headers)
{
    /// <summary>The connection ends after so many bytes of the body.</summary>
    public int CutAfter { get; init; } = int.MaxValue;

    /// <summary>The length that the answer claims, where it is not the body's.</summary>
    public long? DeclaredLength { get; init; }

    /// <summary>What a good server answers.</summary>
    public static RemoteAnswer Of(RemoteRequest request, byte[] content, string tag, params string[] headers)
    {
        var isSame = !request.Headers.TryGetValue("If-Range", out var condition) || condition == tag;
        if (!request.Headers.ContainsKey("Range") || !isSame || content.Length == 0)
        {
            return new RemoteAnswer(200, content, [$"ETag: {tag}", .. headers]);
        }

        var body = request.IsProbe ? content[..1] : content[request.From..];
        return new RemoteAnswer(206, body, [$"ETag: {tag}", $"Content-Range: bytes {request.From}-{request.From + body.Length - 1}/{content.Length}", .. headers]);
    }
}
