using Google.Protobuf;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Fields of a newer version of a message. Ignored in a spec, they would train something else than was asked for.</summary>
internal static class UnknownFields
{
    /// <summary>Whether a message, or one in it, has such fields.</summary>
    public static bool In(IMessage? message) => message is not null
        && message.Descriptor.Parser.WithDiscardUnknownFields(true).ParseFrom(message.ToByteString()).CalculateSize() != message.CalculateSize();
}
