using Google.Protobuf;

namespace LlmPipeline.ServiceDefaults;

/// <summary>Messages that lie in storage as JSON.</summary>
public static class StoredMessages
{
    /// <summary>Reads those of later versions, too: fields that this one does not know are passed over.</summary>
    public static JsonParser Parser { get; } = new(JsonParser.Settings.Default.WithIgnoreUnknownFields(true));
}
