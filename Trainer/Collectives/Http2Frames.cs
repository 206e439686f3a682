using System.Buffers.Binary;
using System.Text;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>The bytes of HTTP/2 frames (RFC 9113) and of header blocks without a dynamic table (HPACK, RFC 7541).</summary>
internal static class Http2Frames
{
    public const int HeaderBytes = 9;

    /// <summary>Bytes of <see cref="WindowUpdate"/>.</summary>
    public const int WindowUpdateBytes = HeaderBytes + 4;

    /// <summary>Largest frame where nothing else was agreed on.</summary>
    public const int UsualMaxBytes = 16 * 1024;

    public const byte Data = 0;
    public const byte Headers = 1;
    public const byte Reset = 3;
    public const byte Settings = 4;
    public const byte Ping = 6;
    public const byte GoAway = 7;
    public const byte Window = 8;

    /// <summary>Flag of settings and pings.</summary>
    public const byte Ack = 0x1;

    /// <summary>Flag of data and headers.</summary>
    public const byte EndStream = 0x1;

    /// <summary>Flag of headers.</summary>
    public const byte EndHeaders = 0x4;

    /// <summary>Setting: bytes of a stream that may be sent ahead.</summary>
    public const int InitialWindowSize = 4;

    /// <summary>Setting: the largest frame that is taken.</summary>
    public const int MaxFrameSize = 5;

    /// <summary>What both directions of a connection may send ahead before they say otherwise.</summary>
    public const int InitialWindow = 65535;

    public static (int Length, byte Type, byte Flags, int Stream) ReadHeader(ReadOnlySpan<byte> bytes) =>
        ((bytes[0] << 16) | BinaryPrimitives.ReadUInt16BigEndian(bytes[1..]), bytes[3], bytes[4], BinaryPrimitives.ReadInt32BigEndian(bytes[5..]) & int.MaxValue);

    public static void WriteHeader(Span<byte> destination, int length, byte type, byte flags, int stream)
    {
        BinaryPrimitives.WriteInt32BigEndian(destination, length << 8);
        (destination[3], destination[4]) = (type, flags);
        BinaryPrimitives.WriteInt32BigEndian(destination[5..], stream);
    }

    public static byte[] Frame(byte type, byte flags, int stream, ReadOnlySpan<byte> payload)
    {
        var frame = new byte[HeaderBytes + payload.Length];
        WriteHeader(frame, payload.Length, type, flags, stream);
        payload.CopyTo(frame.AsSpan(HeaderBytes));
        return frame;
    }

    public static void WindowUpdate(Span<byte> destination, int stream, int increment)
    {
        WriteHeader(destination, 4, Window, 0, stream);
        BinaryPrimitives.WriteInt32BigEndian(destination[HeaderBytes..], increment);
    }

    public static byte[] SettingsFrame(params (int Id, int Value)[] settings)
    {
        var payload = new byte[6 * settings.Length];
        for (var i = 0; i < settings.Length; i++)
        {
            BinaryPrimitives.WriteInt16BigEndian(payload.AsSpan(6 * i), (short)settings[i].Id);
            BinaryPrimitives.WriteInt32BigEndian(payload.AsSpan((6 * i) + 2), settings[i].Value);
        }

        return Frame(Settings, 0, 0, payload);
    }

    /// <summary>A string of a header block, in ASCII.</summary>
    public static byte[] Text(string text)
    {
        var bytes = Encoding.ASCII.GetBytes(text);
        return bytes.Length switch
        {
            < 127 => [(byte)bytes.Length, .. bytes],
            < 127 + (1 << 14) => [127, (byte)(((bytes.Length - 127) & 0x7F) | 0x80), (byte)((bytes.Length - 127) >> 7), .. bytes],
            _ => throw new ArgumentException($"A header of {bytes.Length} bytes is too long."),
        };
    }
}
