using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>The records of runs, and what callers may do to them. Only the coordinator that holds the lease opens it.</summary>
internal sealed partial class RunCatalog(IBlobStore store, TimeProvider time, ILogger<RunCatalog> logger)
{
    private readonly AsyncLock _creating = new();
    private readonly Dictionary<string, string> _requests = new(StringComparer.OrdinalIgnoreCase);
    private readonly RecordStore<Run> _records = new(store, new RecordFormat<Run>
    {
        Collection = "runs",
        File = "run.json",
        Serialize = new JsonFormatter(JsonFormatter.Settings.Default.WithIndentation()).Format,
        Parse = json => RunEvents.Numbered(StoredMessages.Parser.Parse<Run>(json)),
        Copy = r => r.Clone(),
        CreateTime = r => r.CreateTime?.ToDateTimeOffset() ?? default,
        State = r => r.State,
        IsTerminal = r => RunStates.IsTerminal(r.State),
    }, time);

    private volatile bool _isOpen;
    private volatile string? _activeId;

    /// <summary>Set when a run was created, resumed or cancelled.</summary>
    public Signal Changed { get; } = new();

    /// <summary>The run that is worked on; null for none.</summary>
    public string? ActiveId
    {
        get => _activeId;
        set => _activeId = value;
    }

    /// <summary>Whether this coordinator is the one that works.</summary>
    public bool IsOpen => _isOpen;

    /// <summary>The records.</summary>
    /// <exception cref="RpcException">UNAVAILABLE while this coordinator stands by.</exception>
    public RecordStore<Run> Records => _isOpen ? _records : throw Standby();

    /// <summary>Reads the records back.</summary>
    public async Task OpenAsync(CancellationToken cancellationToken)
    {
        foreach (var (id, cause) in await _records.LoadAsync(cancellationToken))
        {
            LogUnreadable(id, cause);
        }

        foreach (var run in _records.All.Select(r => r.Value).Where(r => r.RequestId.Length > 0))
        {
            _requests[run.RequestId] = ResourceName.IdOf(run.Name, "runs");
        }

        _isOpen = true;
        LogOpened(_records.All.Count, _records.All.Count(r => !RunStates.IsTerminal(r.Value.State)));
    }

    /// <summary>Ends the work.</summary>
    public void Close() => _isOpen = false;

    /// <summary>The error of calls while another coordinator works.</summary>
    public static RpcException Standby() => RpcErrors.Create(
        StatusCode.Unavailable, ErrorReasons.Unavailable, "This coordinator is not in charge: it is starting, or another one holds the lease. Try again in a moment.");

    /// <summary>Id and record of a run that exists.</summary>
    public (string Id, Run Run) Find(string name)
    {
        var records = Records;
        var id = ResourceName.IdOf(name, "runs");
        if (records.TryGet(id) is not { } record)
        {
            RpcErrors.ThrowNotFound(name);
            throw new InvalidOperationException();
        }

        return (id, record.Value);
    }

    /// <summary>Queues a run, or only checks its spec. A request that came before gives its run.</summary>
    public async Task<Run> CreateAsync(CreateRunRequest request, CancellationToken cancellationToken)
    {
        var records = Records;
        if (request.RunId.Length > 0)
        {
            ResourceName.RequireId(request.RunId, "run_id");
        }

        if (request.RequestId.Length > 0 && !Guid.TryParse(request.RequestId, out _))
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, "request_id is not a UUID; make a new one for each run, or leave it out.");
        }

        if (UnknownFields.In(request.Spec))
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec,
                "The spec has a key that this coordinator does not know; it was sent by a newer client. Update the services, or use the client of their version.");
        }

        request = request.Clone();
        request.Spec = await FineTuneResolver.ResolveAsync(request.Spec, store, name => records.TryGet(ResourceName.IdOf(name, "runs"))?.Value, cancellationToken);
        if (request.ValidateOnly)
        {
            return New(request.RunId.Length > 0 ? request.RunId : RunIds.New(), request);
        }

        using (await _creating.EnterAsync(cancellationToken))
        {
            if (request.RequestId.Length > 0 && _requests.TryGetValue(request.RequestId, out var known) && records.TryGet(known) is { } earlier)
            {
                return earlier.Value;
            }

            while (true)
            {
                var id = request.RunId.Length > 0 ? request.RunId : RunIds.New();
                var (created, record) = await records.TryCreateAsync(id, New(id, request), cancellationToken);
                if (created)
                {
                    if (request.RequestId.Length > 0)
                    {
                        _requests[request.RequestId] = id;
                    }

                    LogCreated(record.Value.Name);
                    Changed.Set();
                    return record.Value;
                }

                if (request.RunId.Length > 0)
                {
                    throw RpcErrors.Create(StatusCode.AlreadyExists, ErrorReasons.AlreadyExists,
                        $"'{record.Value.Name}' exists already. Choose another run_id, or leave it out.");
                }
            }
        }
    }

    /// <summary>Asks a run to stop. One that waits for its turn is over at once.</summary>
    public async Task<Run> CancelAsync(string name, CancellationToken cancellationToken)
    {
        var (id, _) = Find(name);
        var record = await Records.UpdateAsync(id, run =>
        {
            if (run.State == State.Cancelling || RunStates.IsTerminal(run.State))
            {
                return false;
            }

            RunStates.Move(run, State.Cancelling, time.GetUtcNow(), "a caller asked for it");
            return true;
        }, durable: true, cancellationToken);
        Changed.Set();
        if (record.Value.State == State.Cancelling && ActiveId != id)
        {
            record = await Records.UpdateAsync(id, run =>
            {
                if (run.State != State.Cancelling)
                {
                    return false;
                }

                RunStates.Move(run, State.Cancelled, time.GetUtcNow());
                return true;
            }, durable: true, cancellationToken);
        }

        return record.Value;
    }

    /// <summary>Queues a new attempt.</summary>
    public async Task<Run> ResumeAsync(string name, string checkpoint, CancellationToken cancellationToken)
    {
        var (id, present) = Find(name);
        RequireResumable(present);
        var committed = await Checkpoints.ListAsync(store, name, cancellationToken);
        var start = committed.Count > 0 ? committed[^1] : null;
        if (checkpoint.Length > 0)
        {
            var (run, step) = ResourceName.ParseCheckpoint(checkpoint);
            if (run != name)
            {
                RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidName, $"'{checkpoint}' is not a checkpoint of '{name}'.");
            }

            start = committed.FirstOrDefault(c => c.Step == step) ?? throw RpcErrors.Create(StatusCode.NotFound, ErrorReasons.NotFound,
                $"'{checkpoint}' does not exist; '{name}' has {(committed.Count == 0 ? "none" : string.Join(", ", committed.Select(c => c.Step)))}.");
        }

        var record = await Records.UpdateAsync(id, run =>
        {
            RequireResumable(run);
            run.Attempt++;
            run.Error = null;
            run.Evaluation = null;
            run.ModelVersion = "";
            run.LatestCheckpoint = start?.Name ?? "";
            run.BestCheckpoint = Checkpoints.Best(committed.Where(c => c.Step <= (start?.Step ?? 0)))?.Name ?? "";
            RunEvents.Add(run, RunEvents.Resumed, $"Attempt {run.Attempt} begins {(start is null ? "from the start" : $"after step {start.Step}")}.", time.GetUtcNow());
            RunStates.Move(run, State.Queued, time.GetUtcNow());
            return true;
        }, durable: true, cancellationToken);
        Changed.Set();
        return record.Value;
    }

    /// <summary>Whether a run is to be cancelled: not when the coordinator only stops, as the run goes on later then.</summary>
    public bool IsCancelling(string id) => Records.TryGet(id)!.Value.State == State.Cancelling;

    /// <summary>Adds an event to a run.</summary>
    public Task AddEventAsync(string id, string kind, string message) => TellAsync(id, run => RunEvents.Add(run, kind, message, time.GetUtcNow()));

    /// <summary>Changes a record by an event: durably, or, where storage does not let it, with the next change that is durable.</summary>
    public async Task TellAsync(string id, Action<Run> change)
    {
        try
        {
            await Records.UpdateAsync(id, Change);
        }
        catch (Exception exception) when (StorageFailure.Is(exception) && exception is not BlobConditionException)
        {
            LogUntold(exception, id);
            await Records.UpdateAsync(id, Change, durable: false);
        }

        bool Change(Run run)
        {
            change(run);
            return true;
        }
    }

    private static void RequireResumable(Run run)
    {
        if (run.State is not (State.Failed or State.Cancelled))
        {
            RpcErrors.ThrowFailedPrecondition(ErrorReasons.WrongState,
                $"'{run.Name}' is {RunStates.NameOf(run.State)}; only a run that is FAILED or CANCELLED can be resumed.");
        }
    }

    private Run New(string id, CreateRunRequest request)
    {
        var now = time.GetUtcNow();
        var (traceId, traceparent) = RunTrace.NewContext();
        var spec = RunSpecResolver.Resolve(request.Spec, id);
        var run = new Run
        {
            Name = $"runs/{id}",
            Spec = spec,
            State = State.Queued,
            Attempt = 1,
            Progress = new RunProgress { TotalSteps = spec.Training.Steps },
            CreateTime = Timestamp.FromDateTimeOffset(now),
            TraceId = traceId,
            Traceparent = traceparent,
            RequestId = request.RequestId,
        };
        RunEvents.Add(run, RunEvents.StateChanged, "QUEUED", now);
        return run;
    }

    [LoggerMessage(2000, LogLevel.Information, "Queued {Run}.")]
    private partial void LogCreated(string run);

    [LoggerMessage(2001, LogLevel.Information, "Read {Count} runs back; {Open} of them go on.")]
    private partial void LogOpened(int count, int open);

    [LoggerMessage(2003, LogLevel.Warning, "Storage does not take an event of runs/{Id}; it is written with the next one.")]
    private partial void LogUntold(Exception exception, string id);

    [LoggerMessage(2002, LogLevel.Error, "The record of runs/{Id} cannot be read; the run is left out until the file is mended or deleted.")]
    private partial void LogUnreadable(string id, Exception exception);
}
