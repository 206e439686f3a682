using System.Buffers.Binary;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>What <see cref="PullStream"/> begins a connection with: HTTP/2's preface, settings, and one whole request for gradients.</summary>
/// <param name="Request">The request.</param>
/// <param name="Window">Bytes that may be sent ahead.</param>
internal sealed record PullHello(PullRequest Request, int Window)
{
    /// <summary>Largest frame that is asked for, and that a server of gradients sends.</summary>
    public const int MaxFrameBytes = GradientStream.MaxMessageBytes;

    /// <summary>The number of the call on its connection.</summary>
    public const int StreamId = 1;

    /// <summary>Bytes of the length that gRPC has before a message.</summary>
    public const int PrefixBytes = 5;

    private static ReadOnlySpan<byte> Preface => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8;

    // Indexed fields of the static table: POST; then the scheme, http or https; then a path that is not to be indexed.
    private static ReadOnlySpan<byte> Method => [0x83];

    private static byte[] Path { get; } = [0x04, .. Http2Frames.Text(GradientStream.PullPath)];

    /// <summary>As it is sent to an address.</summary>
    public byte[] ToBytes(Uri address)
    {
        var request = GradientStream.Encode(Request);
        var update = new byte[Http2Frames.WindowUpdateBytes];
        Http2Frames.WindowUpdate(update, 0, Window - Http2Frames.InitialWindow);
        byte[] headers =
        [
            .. Method, address.Scheme == Uri.UriSchemeHttps ? (byte)0x87 : (byte)0x86, .. Path,
            0x01, .. Http2Frames.Text(address.Authority), 0x0F, 0x10, .. Http2Frames.Text("application/grpc"), 0x00, .. Http2Frames.Text("te"), .. Http2Frames.Text("trailers"),
        ];

        return
        [
            .. Preface,
            .. Settings(Window),
            .. update,
            .. Http2Frames.Frame(Http2Frames.Headers, Http2Frames.EndHeaders, StreamId, headers),
            .. Http2Frames.Frame(Http2Frames.Data, Http2Frames.EndStream, StreamId, [0, 0, 0, 0, (byte)request.Length, .. request]),
        ];
    }

    /// <summary>Reads the first bytes of a connection.</summary>
    /// <param name="bytes">What has come so far.</param>
    /// <param name="hello">The hello, where they begin with one.</param>
    /// <param name="length">Its bytes.</param>
    /// <returns>False where they are none; null where more has to come to tell.</returns>
    public static bool? TryRead(ReadOnlySpan<byte> bytes, out PullHello? hello, out int length)
    {
        (hello, length) = (null, 0);
        var known = Math.Min(bytes.Length, Preface.Length);
        if (!bytes[..known].SequenceEqual(Preface[..known]))
        {
            return false;
        }

        var rest = bytes[known..];
        var window = 0;
        ReadOnlySpan<byte> order = [Http2Frames.Settings, Http2Frames.Window, Http2Frames.Headers, Http2Frames.Data];
        foreach (var due in order)
        {
            if (rest.Length < Http2Frames.HeaderBytes)
            {
                return null;
            }

            var (size, type, flags, _) = Http2Frames.ReadHeader(rest);
            if (type != due || size > Http2Frames.UsualMaxBytes)
            {
                return false;
            }

            if (rest.Length < Http2Frames.HeaderBytes + size)
            {
                return null;
            }

            var payload = rest.Slice(Http2Frames.HeaderBytes, size);
            rest = rest[(Http2Frames.HeaderBytes + size)..];
            switch (due)
            {
                // Others are told by these already: they may say nothing more before the server has said something.
                case Http2Frames.Settings when (window = WindowOf(payload)) < ExchangeOptions.SmallestWindow:
                case Http2Frames.Window when size != 4 || BinaryPrimitives.ReadInt32BigEndian(payload) != window - Http2Frames.InitialWindow:
                case Http2Frames.Headers when flags != Http2Frames.EndHeaders || size < 2 || payload[0] != Method[0] || !payload[2..].StartsWith(Path):
                    return false;
                case Http2Frames.Data when flags == Http2Frames.EndStream && size > PrefixBytes && GradientStream.TryDecode(payload[PrefixBytes..], out var request):
                    (hello, length) = (new PullHello(request, window), bytes.Length - rest.Length);
                    return true;
            }
        }

        return false;
    }

    // Without a dynamic table, header blocks can be read on their own; nothing is pushed.
    private static byte[] Settings(int window) => Http2Frames.SettingsFrame((1, 0), (2, 0), (Http2Frames.InitialWindowSize, window), (Http2Frames.MaxFrameSize, MaxFrameBytes));

    // 0 where these are not the settings of a hello.
    private static int WindowOf(ReadOnlySpan<byte> settings)
    {
        const int At = (2 * 6) + 2;
        var window = settings.Length >= At + sizeof(int) ? BinaryPrimitives.ReadInt32BigEndian(settings[At..]) : 0;
        return settings.SequenceEqual(Settings(window).AsSpan(Http2Frames.HeaderBytes)) ? window : 0;
    }
}
