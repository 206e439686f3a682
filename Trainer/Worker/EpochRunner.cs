using System.Security.Cryptography;
using Google.Protobuf;
using Grpc.Core;
using LlmPipeline.Models;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Optimizers;
using LlmPipeline.Workers.V1;
using TorchSharp;

namespace LlmPipeline.Trainer.Worker;

/// <summary>Takes part in one epoch after the other: dataset, replica, ring, loop. Used by the compute thread.</summary>
internal sealed partial class EpochRunner(
    IBlobStore store, DatasetSource datasets, RingRegistry registry, ReplicaHolder holder, WorkerControl control, IProgressSink progress,
    TrainerMetrics metrics, torch.Device device, PeerConnections connections, OwnText ownText, ILogger logger) : IDisposable
{
    private TrainingDataset? _dataset;
    private Replica? _replica;
    private TrainingTrace? _trace;

    /// <summary>Takes part until training is over or the epoch is left.</summary>
    /// <exception cref="RingBrokenException">A member is lost.</exception>
    /// <exception cref="FatalTrainingException">The run cannot go on at all.</exception>
    public LoopOutcome Run(EpochPlan plan, ILoopControl loopControl, CancellationToken cancellationToken)
    {
        var ring = plan.Members.Count > 1 ? new GrpcRingTransport(plan.Epoch, plan.Rank, [.. plan.Members.Select(m => m.Address)], connections) : null;
        try
        {
            registry.Enter(plan.Epoch, ring);
            var dataset = OpenDataset(plan.Dataset, cancellationToken);
            if (NgramRunner.Trains(plan))
            {
                DropReplica();
                LogEpoch(plan.Epoch, plan.Run, plan.Rank, plan.Members.Count, plan.StartStep);
                return new NgramRunner(store, progress, metrics, Trace(plan, plan.StartStep)).Run(plan, dataset, loopControl, cancellationToken);
            }

            var settings = TrainingSettings.From(plan.Spec);
            var replica = Prepare(plan, dataset, cancellationToken);
            Announce();
            var trace = Trace(plan, replica.State.Step);
            LogEpoch(plan.Epoch, plan.Run, plan.Rank, plan.Members.Count, replica.State.Step);
            var data = Data(dataset, settings, replica, cancellationToken);
            var loop = new TrainingLoop(
                replica, settings, data, new RingPlace(ring, plan.Rank, plan.Members.Count, [.. plan.Members.Select(m => m.WorkerId)]), device.type == DeviceType.CPU,
                (source, step, stop) => CopyAsync(replica, plan, source, step, stop),
                loopControl, progress, new CheckpointStore(store, dataset.TokenizerJson, logger), metrics, trace, logger)
            {
                StepDone = Announce,
                Begin = () => Begin(plan, dataset, replica),
                MaxMicroBatchSize = plan.MaxMicroBatchSize,
                WriteSamples = SampleWriter.For(plan.Spec, replica.Model, dataset.TokenizerJson),
                Ceiling = precision => ComputeCeiling.FlopsPerSecond(device, precision),
            };
            return loop.Run();
        }
        catch (RingBrokenException)
        {
            metrics.EpochBroken();
            ring?.Abort();
            throw;
        }
        catch (Exception exception) when (Explain(exception, plan) is { } fatal)
        {
            ring?.Abort();
            throw fatal;
        }
        catch
        {
            ring?.Abort();
            throw;
        }
        finally
        {
            _trace?.Leave(_replica?.State.Step ?? 0);
            if (ring is not null)
            {
                ring.DisposeAsync().AsTask().GetAwaiter().GetResult();
            }
        }
    }

    /// <summary>
    /// Makes ready what a later epoch of the plan's run needs before its members can meet: the dataset is open, the network made, and
    /// has computed once, so that nobody waits for libtorch and for code that is compiled when it first runs.
    /// </summary>
    /// <param name="plan">Its rank is negative.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public void Prepare(EpochPlan plan, CancellationToken cancellationToken)
    {
        var dataset = OpenDataset(plan.Dataset, cancellationToken);
        var held = _replica;
        var replica = Prepare(plan, dataset, cancellationToken);
        if (replica != held)
        {
            var settings = TrainingSettings.From(plan.Spec);
            replica.WarmUp(Data(dataset, settings, replica, cancellationToken), settings.Precision ?? Precision.Fp32);
            ComputeCeiling.FlopsPerSecond(device, settings.Precision ?? Precision.Fp32);
        }

        Announce();
    }

    /// <summary>Lets go of the replica and the dataset.</summary>
    public void Release()
    {
        DropReplica();
        _dataset?.Dispose();
        _dataset = null;
        _trace?.Dispose();
        _trace = null;
    }

    /// <inheritdoc/>
    public void Dispose() => Release();

    private void DropReplica()
    {
        holder.Current = null;
        _replica?.Dispose();
        _replica = null;
        control.Hold(null);
    }

    private TrainingTrace Trace(EpochPlan plan, long step)
    {
        if (_trace?.Run != plan.Run)
        {
            _trace?.Dispose();
            _trace = new TrainingTrace(plan.Run);
        }

        _trace.Enter(plan.Traceparent, plan.Rank, step);
        return _trace;
    }

    private void Announce() => control.Hold(_replica is null ? null : new WorkerState { Run = _replica.Run, Attempt = _replica.Attempt, Step = _replica.IsWhole ? _replica.State.Step : -1 });

    private TrainingDataset OpenDataset(string name, CancellationToken cancellationToken)
    {
        if (_dataset?.Name != name)
        {
            _dataset?.Dispose();
            _dataset = null;
            _dataset = datasets(name, cancellationToken).GetAwaiter().GetResult();
        }

        return _dataset!;
    }

    private ITrainingData Data(TrainingDataset dataset, TrainingSettings settings, Replica replica, CancellationToken cancellationToken)
    {
        if (settings.Local is { OwnData: true })
        {
            return new OwnData(ownText.Open(dataset, settings.Context, cancellationToken), dataset.Validation, settings, Masking.Of(replica.Model.Config));
        }

        return dataset.Labels is null
            ? new TrainingData(dataset.Train, dataset.Validation, settings, Masking.Of(replica.Model.Config))
            : new LabelledData(dataset.Train, dataset.Validation, dataset.VocabularySize, dataset.EndOfTextId, settings);
    }

    /// <summary>Makes the replica be of the plan's run and attempt: it is already, or it is loaded, new, or empty until it is copied.</summary>
    private Replica Prepare(EpochPlan plan, TrainingDataset dataset, CancellationToken cancellationToken)
    {
        if (_replica is { } held && held.Run == plan.Run && held.Attempt == plan.Attempt && (plan.SourceRank >= 0 || held.State.Step == plan.StartStep))
        {
            holder.Current = held;
            return held;
        }

        DropReplica();
        var model = NewModel(plan, dataset, plan.SourceRank >= 0 ? "" : plan.Checkpoint, cancellationToken);
        var fresh = new TrainerState { Run = plan.Run, SpecHash = Convert.ToHexStringLower(SHA256.HashData(plan.Spec.ToByteArray())) };
        var replica = new Replica(plan.Attempt, model, Optimizer.Create(plan.Spec), fresh);
        try
        {
            if (plan.SourceRank >= 0)
            {
                replica.State = fresh with { Step = -1 };
            }
            else if (plan.Checkpoint.Length > 0)
            {
                replica.State = Load(plan, replica, cancellationToken) with { Run = plan.Run, SpecHash = fresh.SpecHash };
            }

            _replica = replica;
            holder.Current = replica;
            return replica;
        }
        catch
        {
            replica.Dispose();
            throw;
        }
    }

    /// <summary>The network as it is before the first step.</summary>
    private LanguageModel NewModel(EpochPlan plan, TrainingDataset dataset, string checkpoint, CancellationToken cancellationToken)
    {
        try
        {
            return FineTuning.CreateAsync(store, plan.Spec, dataset, checkpoint, device, cancellationToken).GetAwaiter().GetResult();
        }
        catch (Exception exception) when (checkpoint.Length > 0 && exception is (CorruptDirectoryException or BlobNotFoundException))
        {
            throw CannotLoad(checkpoint, exception);
        }
    }

    // The coordinator looks at the checkpoints before the next epoch, and names one that is whole.
    private static IOException CannotLoad(string checkpoint, Exception cause) => new($"{checkpoint} cannot be loaded: {cause.Message}", cause);

    /// <summary>Makes the replica what it was before the first step.</summary>
    private TrainerState Begin(EpochPlan plan, TrainingDataset dataset, Replica replica)
    {
        using var model = NewModel(plan, dataset, "", CancellationToken.None);
        replica.Begin(model.Parameters.Values);
        return new TrainerState { Run = replica.State.Run, SpecHash = replica.State.SpecHash };
    }

    private TrainerState Load(EpochPlan plan, Replica replica, CancellationToken cancellationToken)
    {
        try
        {
            return CheckpointStore.LoadAsync(store, plan.Checkpoint, replica, cancellationToken).GetAwaiter().GetResult();
        }
        catch (Exception exception) when (exception is CorruptDirectoryException or BlobNotFoundException)
        {
            throw CannotLoad(plan.Checkpoint, exception);
        }
    }

    private async Task CopyAsync(Replica replica, EpochPlan plan, int sourceRank, long step, CancellationToken stop)
    {
        var source = plan.Members[sourceRank];
        var request = new CopyStateRequest { Epoch = plan.Epoch, Run = plan.Run, Attempt = plan.Attempt, Step = step };
        try
        {
            await StateCopy.FillAsync(replica, connections, source.Address, request, stop);
        }
        catch (Exception exception) when (exception is RpcException or InvalidDataException)
        {
            var lost = exception is RpcException { StatusCode: StatusCode.Unavailable or StatusCode.Internal };
            throw new RingBrokenException($"The state could not be copied from {source.WorkerId}: {exception.Message}", lost ? sourceRank : -1, exception);
        }
    }

    /// <summary>What a failure means for the run; null when a new epoch may cure it.</summary>
    private static FatalTrainingException? Explain(Exception exception, EpochPlan plan)
    {
        return exception switch
        {
            FatalTrainingException fatal => fatal,
            OperationCanceledException => null,
            BlobNotFoundException or CorruptDirectoryException or InvalidDataException
                => new FatalTrainingException(ErrorReasons.CorruptData, $"{exception.Message} Resume from an older checkpoint, or make the dataset again.", exception),
            IOException or Azure.RequestFailedException => null,
            _ when OutOfMemory.Is(exception) && NgramRunner.Trains(plan) => new FatalTrainingException(ErrorReasons.OutOfMemory,
                $"The n-grams up to order {plan.Spec!.Model.Ngram.Order} do not fit into the memory of {Environment.MachineName}. Lower model.ngram.order, or use less text.", exception),
            _ when OutOfMemory.Is(exception) => new FatalTrainingException(ErrorReasons.OutOfMemory,
                $"The model, a copy of its state, or a micro-batch of as few sequences as can be of {plan.Spec?.Model?.Context} tokens does not fit into the memory of {Environment.MachineName} ({exception.Message.Split('\n')[0]}). Give it more memory, or create a run with a smaller model or model.context.", exception),
            ArgumentException => new FatalTrainingException(ErrorReasons.InvalidSpec, exception.Message, exception),
            _ => new FatalTrainingException(ErrorReasons.Internal, $"Training failed: {exception.Message}", exception),
        };
    }

    [LoggerMessage(2530, LogLevel.Information, "Epoch {Epoch} of {Run}: this worker is rank {Rank} of {Size} and begins after step {Step}.")]
    private partial void LogEpoch(long epoch, string run, int rank, int size, long step);
}
