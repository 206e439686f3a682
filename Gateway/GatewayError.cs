namespace LlmPipeline.Gateway;

/// <summary>What kind of error a caller gets; REST and gRPC each have their code for it.</summary>
internal enum GatewayErrorKind
{
    InvalidArgument,
    ModelNotFound,
    CorruptData,
    QueueFull,
    TimedOut,
    Unavailable,
}

/// <summary>An error for the caller: says what is wrong, where, and what to do.</summary>
internal sealed class GatewayException(GatewayErrorKind kind, string message, string? parameter = null, TimeSpan? retryAfter = null)
    : Exception(message)
{
    public GatewayErrorKind Kind { get; } = kind;

    /// <summary>The request field at fault.</summary>
    public string? Parameter { get; } = parameter;

    /// <summary>When it is worth trying again.</summary>
    public TimeSpan? RetryAfter { get; } = retryAfter;

    public static GatewayException Invalid(string parameter, string message) => new(GatewayErrorKind.InvalidArgument, message, parameter);
}
