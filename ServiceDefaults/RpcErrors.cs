using System.Diagnostics.CodeAnalysis;
using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;

namespace LlmPipeline.ServiceDefaults;

/// <summary>Reasons that errors carry, stable for clients; the one list of them.</summary>
public static class ErrorReasons
{
    public const string InvalidName = "INVALID_NAME";
    public const string InvalidSpec = "INVALID_SPEC";
    public const string NotFound = "NOT_FOUND";
    public const string AlreadyExists = "ALREADY_EXISTS";
    public const string WrongState = "WRONG_STATE";
    public const string SourceNotFound = "SOURCE_NOT_FOUND";
    public const string SourceEmpty = "SOURCE_EMPTY";
    public const string InvalidText = "INVALID_TEXT";
    public const string CorruptData = "CORRUPT_DATA";
    public const string TokenizerMismatch = "TOKENIZER_MISMATCH";
    public const string OutOfMemory = "OUT_OF_MEMORY";
    public const string LossNotFinite = "LOSS_NOT_FINITE";
    public const string LossSpike = "LOSS_SPIKE";
    public const string GradientExploded = "GRADIENT_EXPLODED";
    public const string GateNotPassed = "GATE_NOT_PASSED";
    public const string QueueFull = "QUEUE_FULL";
    public const string OldEpoch = "OLD_EPOCH";
    public const string DeadlineExceeded = "DEADLINE_EXCEEDED";
    public const string Unavailable = "UNAVAILABLE";
    public const string Internal = "INTERNAL";
}

/// <summary>Throws RPC errors with a canonical code, a message that says what to do, and an ErrorInfo.</summary>
public static class RpcErrors
{
    /// <summary>The domain of every ErrorInfo.</summary>
    public const string Domain = "llmpipeline";

    /// <summary>An RPC error to throw.</summary>
    public static RpcException Create(StatusCode code, string reason, string message) => new Google.Rpc.Status
    {
        Code = (int)code,
        Message = message,
        Details = { Any.Pack(new ErrorInfo { Domain = Domain, Reason = reason }) },
    }.ToRpcException();

    /// <summary>INVALID_ARGUMENT.</summary>
    [DoesNotReturn]
    public static void ThrowInvalidArgument(string reason, string message) => throw Create(StatusCode.InvalidArgument, reason, message);

    /// <summary>NOT_FOUND.</summary>
    [DoesNotReturn]
    public static void ThrowNotFound(string name) => throw Create(StatusCode.NotFound, ErrorReasons.NotFound, $"'{name}' does not exist. List the collection to see what there is.");

    /// <summary>FAILED_PRECONDITION.</summary>
    [DoesNotReturn]
    public static void ThrowFailedPrecondition(string reason, string message) => throw Create(StatusCode.FailedPrecondition, reason, message);
}
