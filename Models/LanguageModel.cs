using System.Runtime.InteropServices;
using LlmPipeline.Models.Networks;
using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace LlmPipeline.Models;

// B = batch, T = time, N = B * T, M = places with a target, C = channels, V = vocabulary

/// <summary>
/// An autoregressive network: token ids in, next-token logits out. Notable:
/// - functional: no modules, the parameters are views of one flat buffer, and so are their gradients;
/// - a chain of parts: embedding, blocks, final norm, head, so that a backward pass can go part by part;
/// - everything between the embedding and the logits is two-dimensional (N, C), except within blocks.
/// Not safe for use from two threads at once.
/// </summary>
public abstract class LanguageModel : ITokenModel
{
    /// <summary>A target that is not predicted: it adds nothing to loss, gradient and counts.</summary>
    public const int IgnoredTarget = -100;

    private readonly TorchParameters _parameters;
    private readonly List<Tensor> _constants = [];
    private readonly UpdateDropout _updateDropout = new();
    private readonly Tensor? _score;

    /// <summary>A network whose parameters are all 0.</summary>
    private protected LanguageModel(ModelConfig config, Device device)
    {
        config.Validate();
        TorchRuntime.Initialize();
        Config = config;
        Device = device;
        LargestLogits = device.type == DeviceType.CPU ? 1 << 24 : 1 << 28;
        _parameters = new TorchParameters(ParameterLayout.Place(config), device);
        _score = Find(ParameterLayout.Score);
    }

    /// <summary>Sizes of the network.</summary>
    public ModelConfig Config { get; }

    /// <inheritdoc/>
    public int VocabularySize => Config.VocabularySize;

    /// <inheritdoc/>
    public int EndOfTextId => Config.EndOfTextId;

    /// <inheritdoc/>
    public int BeginOfTextId => Config.BeginOfTextId ?? Config.EndOfTextId;

    /// <inheritdoc/>
    public int Context => Config.Context;

    /// <inheritdoc/>
    public virtual int? MaxPositions => Config.Context;

    /// <inheritdoc/>
    public long ParameterCount => Parameters.ParameterCount + Parameters.FrozenViews.Sum(v => (long)v.Length);

    /// <summary>Outputs at a place: ids of the vocabulary, or classes.</summary>
    public int OutputCount => Config.Classes > 0 ? Config.Classes : VocabularySize;

    /// <summary>All trainable numbers, in one flat buffer.</summary>
    public FlatParameters Parameters => _parameters;

    /// <summary>Where it computes.</summary>
    public Device Device { get; }

    /// <summary>Logits that a training pass makes at a time: 64 MB (on CUDA 1 GB), and as much for each of softmax and gradient.</summary>
    internal long LargestLogits { get; set; }

    /// <summary>What <see cref="AccumulateGradients"/> computes in. Evaluation and generation are fp32 whatever it is.</summary>
    /// <exception cref="NotSupportedException">It cannot be computed in here; the message says why.</exception>
    public Precision Precision
    {
        get;
        set
        {
            if (!Precisions.IsSupported(value, Config.Architecture))
            {
                throw new NotSupportedException($"Networks of architecture {Config.Architecture} compute in fp32, not in {Precisions.NameOf(value)}. Take fp32.");
            }

            Autocast.Require(value, Device);
            field = value;
        }
    }

    /// <summary>
    /// The share of a target's probability that <see cref="AccumulateGradients"/> spreads evenly over all outputs (Szegedy et al.
    /// 2016, section 7; as PyTorch's <c>label_smoothing</c>). Evaluation does without.
    /// </summary>
    public double LabelSmoothing { get; set; }

    /// <summary>
    /// Floating-point operations of forward and backward pass per trained token, by the usual estimate (PaLM, appendix B; nanoGPT):
    /// 6 for each parameter that is multiplied with, 4 for a frozen one, and 12 L H Q T for attention over T positions. Blocks before the
    /// first one with something to train have no backward pass: 2 for a parameter, 4 H Q T for attention. Where tokens are masked, the
    /// head is computed for these alone.
    /// </summary>
    /// <param name="time">T, the length of the sequences.</param>
    public double FlopsPerToken(int time)
    {
        var architecture = NetworkArchitecture.Of(Config.Architecture);
        var firstPart = Parameters.Views.Min(v => PartOf(v.Name));
        var forwardOnly = Math.Clamp(firstPart - 1, 0, Config.Layers);
        var attention = Config.Heads > 0 ? ((12.0 * (Config.Layers - forwardOnly)) + (4.0 * forwardOnly)) * Config.Heads * Config.HeadWidth * time : 0;
        return attention + Parameters.Views.Sum(v => 6 * Multiplied(v)) + Parameters.FrozenViews.Sum(v => (IsHead(v) || PartOf(v.Name) >= firstPart ? 4 : 2) * Multiplied(v));

        bool IsHead(ParameterView view) => Config.Classes == 0 && (architecture.IsHead(view.Name) || (Config.Tied && view.Name == architecture.Embedding));

        // Rows of tables are only taken.
        double Multiplied(ParameterView view) =>
            IsHead(view) ? view.Length * (Config.Objective == Objective.Masked ? Masking.Share : 1) : architecture.IsEmbedding(view.Name) ? 0 : view.Length;
    }

    /// <summary>Ranges of the gradient, in the order in which a backward pass is done with them; what is not decayed comes after all of them.</summary>
    /// <param name="smallest">Parts are taken together until a range has as many elements.</param>
    public IReadOnlyList<GradientRange> GradientRanges(int smallest)
    {
        var ranges = new List<GradientRange>();
        var views = Parameters.Views.Where(v => v.Offset < Parameters.DecayedLength).ToList();
        var (end, part) = (Parameters.DecayedLength, int.MaxValue);
        for (var i = views.Count - 1; i >= 0; i--)
        {
            var own = PartOf(views[i].Name);
            part = Math.Min(part, own);
            if (i == 0 || (PartOf(views[i - 1].Name) != own && end - views[i].Offset >= smallest))
            {
                ranges.Add(new GradientRange(views[i].Offset, end - views[i].Offset, part));
                (end, part) = (views[i].Offset, int.MaxValue);
            }
        }

        return [.. ranges.OrderByDescending(r => r.Part)];
    }

    private int PartOf(string name)
    {
        var architecture = NetworkArchitecture.Of(Config.Architecture);
        return name == ParameterLayout.Score ? BlockCount + 1
            : architecture.IsEmbedding(name) ? 0
            : architecture.BlockOf(name) is { } block ? block + 1
            : BlockCount + 1;
    }

    /// <summary>Creates a network with fresh weights; the same config and seed give the same bits.</summary>
    /// <exception cref="ArgumentException">The config names sizes that are not possible.</exception>
    public static LanguageModel Create(ModelConfig config, long seed, Device device)
    {
        ArgumentNullException.ThrowIfNull(config);
        var model = NetworkArchitecture.Of(config.Architecture).Create(config, device);
        ParameterLayout.Initialize(config, seed, model.Parameters);
        return model;
    }

    /// <summary>Logits of the next token, or of the classes, for every position; without dropout and without a graph.</summary>
    /// <param name="ids_BT">int64, T at most the context length, on any device.</param>
    /// <returns>fp32 (B, T, V) or (B, T, classes); the caller disposes it.</returns>
    /// <exception cref="InvalidOperationException">It is a classifier that reads more than the last id.</exception>
    public Tensor Forward(Tensor ids_BT)
    {
        ArgumentNullException.ThrowIfNull(ids_BT);
        if (Pools)
        {
            throw new InvalidOperationException($"The model reads a document as a whole (pooling {Poolings.NameOf(Config.Pooling)}) and has no classes at each position. Classify with it.");
        }

        var shape = ids_BT.shape;
        if (shape.Length != 2 || shape[1] > Config.Context)
        {
            throw new ArgumentException($"Ids of shape ({string.Join(", ", shape)}) were given; (B, T) with T at most {Config.Context} is needed.", nameof(ids_BT));
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var x_NC = Hidden(ids_BT.to(Device).view(-1), new Pass((int)shape[0]));
        return Head(x_NC).view(shape[0], shape[1], OutputCount).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Adds the gradient of <c>lossScale * sum of token losses</c> of one micro-batch to <see cref="FlatParameters.Gradients"/>, on the
    /// device, and brings them to the host.
    /// Bit-identical for equal arguments, parameters and <see cref="TorchRuntime.Fingerprint"/> (on the CPU).
    /// </summary>
    /// <param name="inputs_BT">Input ids, row by row.</param>
    /// <param name="targets_BT">The ids to predict, as many; or <see cref="IgnoredTarget"/>.</param>
    /// <param name="batch">B.</param>
    /// <param name="lossScale">One over the predicted tokens of the whole step, over all workers.</param>
    /// <param name="dropoutSeed">Seed of this micro-batch's dropout.</param>
    /// <param name="gradientScale">Multiplies the gradients at last.</param>
    /// <param name="partDone">
    /// Called with p when the gradients of part p and of those after it (part 0 is the embedding, i + 1 block i, the last one what follows)
    /// are whole, while those before it are still to come; on the CPU only, and not with <paramref name="gradientScale"/>. Part 0 is
    /// done when this returns. The bits are the same with and without.
    /// </param>
    /// <returns>The mean loss of the micro-batch, in nats per token; with label smoothing, that of the smoothed targets.</returns>
    /// <exception cref="ArgumentException">The lengths do not fit, or an id is not of the vocabulary.</exception>
    public float AccumulateGradients(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch, float lossScale, ulong dropoutSeed, float gradientScale = 1,
        Action<int>? partDone = null)
    {
        using var loss = QueueGradients(inputs_BT, targets_BT, batch, lossScale, dropoutSeed, gradientScale, partDone);

        // The loss is the one number that the host waits for; what was queued before it is there then.
        _parameters.BeginDownload();
        return (float)loss.item<double>();
    }

    /// <summary>
    /// The same on the device alone: <see cref="FlatParameters.DeviceGradients"/> has the sum, and the host waits for nothing where
    /// the device is another one.
    /// </summary>
    /// <returns>The mean loss, float64, on the device; the caller disposes it.</returns>
    public Tensor QueueGradients(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch, float lossScale, ulong dropoutSeed, float gradientScale = 1,
        Action<int>? partDone = null)
    {
        CheckBatch(inputs_BT, targets_BT, batch);
        var places_M = Places(targets_BT);
        if (places_M.Length == 0)
        {
            throw new ArgumentException("Every target of the micro-batch is ignored; its mean loss does not exist.", nameof(targets_BT));
        }

        using var scope = NewDisposeScope();
        using var grad = enable_grad();
        using var updateDropout = _updateDropout.Begin(Config.Tuning?.Lora?.Dropout ?? 0, dropoutSeed, Device);
        using var dropout = Config.Dropout > 0 || Config.RecurrentDropout > 0 ? new Dropout(Config.Dropout, dropoutSeed, Device) : null;
        var tape = new Tape();
        Tensor x_MC, targets_M;
        using (Autocast.Begin(Precision, Device))
        {
            (x_MC, targets_M) = Rows(inputs_BT, targets_BT, places_M, new Pass(batch) { Dropout = dropout, Tape = tape, PartDone = partDone });
        }

        var lossSum = BackwardOfLoss(x_MC, targets_M, lossScale);
        tape.Backward();
        if (gradientScale != 1)
        {
            _parameters.ScaleGradients(gradientScale);
        }

        using var count = ((double)places_M.Length).ToScalar();
        return lossSum.div(count).MoveToOuterDisposeScope();
    }

    /// <summary>Backward pass of the head and what is before it; logits of many rows and ids are made, and go, in parts.</summary>
    /// <returns>The sum of the losses, float64, on the device.</returns>
    private Tensor BackwardOfLoss(Tensor x_MC, Tensor targets_M, float lossScale)
    {
        var count = targets_M.shape[0];
        var rows = Math.Max(1, LargestLogits / OutputCount);
        if (rows >= count)
        {
            return BackwardOfPart(x_MC, targets_M, lossScale);
        }

        var sum = zeros([], float64, Device);
        var gradient_MC = x_MC.requires_grad ? empty_like(x_MC) : null;
        for (var first = 0L; first < count; first += rows)
        {
            using var scope = NewDisposeScope();
            var here = Math.Min(rows, count - first);
            var x_PC = x_MC.narrow(0, first, here).detach().requires_grad_(gradient_MC is not null);
            sum.Accumulate(BackwardOfPart(x_PC, targets_M.narrow(0, first, here), lossScale));
            gradient_MC?.narrow(0, first, here).copy_(x_PC.grad!);
        }

        if (gradient_MC is not null)
        {
            Tape.Continue(x_MC, gradient_MC);
        }

        return sum;
    }

    private Tensor BackwardOfPart(Tensor x_MC, Tensor targets_M, float lossScale)
    {
        using var scope = NewDisposeScope();
        Tensor logits_MV;
        using (Autocast.Begin(Precision, Device))
        {
            logits_MV = Head(x_MC);
        }

        return TokenLoss.Backward(logits_MV.to(float32), targets_M, lossScale, LabelSmoothing).MoveToOuterDisposeScope();
    }

    /// <summary>Sum of token losses in nats (float64), and the number of tokens whose most likely prediction is right, without dropout.</summary>
    public (double LossSum, long CorrectCount) Evaluate(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batch);
        var lossSums = new double[batch];
        var correctCounts = new long[batch];
        EvaluateSequences(inputs_BT, targets_BT, batch, lossSums, correctCounts);
        var lossSum = 0.0;
        foreach (var sum in lossSums)
        {
            lossSum += sum;
        }

        return (lossSum, correctCounts.Sum());
    }

    /// <summary>
    /// The same for each sequence. On the CPU a sequence's numbers are the same bits in whatever batch it stands; on CUDA they
    /// may differ by rounding.
    /// </summary>
    /// <param name="inputs_BT">Input ids, row by row.</param>
    /// <param name="targets_BT">The ids to predict, as many; or <see cref="IgnoredTarget"/>.</param>
    /// <param name="batch">B.</param>
    /// <param name="lossSums_B">Receives the sums of token losses, in nats.</param>
    /// <param name="correctCounts_B">Receives the numbers of right predictions.</param>
    /// <exception cref="ArgumentException">The lengths do not fit, or an id is not of the vocabulary.</exception>
    public void EvaluateSequences(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch, Span<double> lossSums_B, Span<long> correctCounts_B)
    {
        var time = CheckBatch(inputs_BT, targets_BT, batch);
        if (lossSums_B.Length != batch || correctCounts_B.Length != batch)
        {
            throw new ArgumentException($"The results of {batch} sequences do not fit {lossSums_B.Length} sums and {correctCounts_B.Length} counts.");
        }

        // A matrix product of other height may round a row in another way, so on the CPU, where it costs nothing, one sequence at a time.
        var together = Device.type == DeviceType.CPU ? 1 : batch;
        for (var first = 0; first < batch; first += together)
        {
            var inputs_N = inputs_BT.Slice(first * time, together * time);
            var targets_N = targets_BT.Slice(first * time, together * time);
            var places_M = Places(targets_N);
            lossSums_B.Slice(first, together).Clear();
            correctCounts_B.Slice(first, together).Clear();
            if (places_M.Length == 0)
            {
                continue;
            }

            using var scope = NewDisposeScope();
            using var inference = inference_mode();
            var (x_MC, targets_M) = Rows(inputs_N, targets_N, places_M, new Pass(together));
            var logits_MV = Head(x_MC);
            var losses = F.cross_entropy(logits_MV, targets_M, reduction: nn.Reduction.None).cpu();
            var correct = logits_MV.argmax(1).eq(targets_M).cpu();
            var losses_M = MemoryMarshal.Cast<byte, float>(losses.bytes);
            var correct_M = correct.bytes;
            for (var m = 0; m < places_M.Length; m++)
            {
                lossSums_B[first + (places_M[m] / time)] += losses_M[m];
                correctCounts_B[first + (places_M[m] / time)] += correct_M[m];
            }
        }
    }

    /// <summary>Log-probabilities of the classes of a sequence.</summary>
    /// <param name="ids_T">At least 1, at most the context length.</param>
    /// <param name="logProbabilities">Receives one number a class, in nats.</param>
    /// <exception cref="ArgumentException">The length does not fit, or an id is not of the vocabulary.</exception>
    /// <exception cref="InvalidOperationException">The model is no classifier.</exception>
    public void Classify(ReadOnlySpan<int> ids_T, Span<double> logProbabilities)
    {
        if (Config.Classes == 0)
        {
            throw new InvalidOperationException("The model is a language model and has no classes. Fine-tune it on a dataset with labels.");
        }

        if (ids_T.Length == 0 || ids_T.Length > Config.Context || logProbabilities.Length != Config.Classes)
        {
            throw new ArgumentException($"{ids_T.Length} ids and room for {logProbabilities.Length} classes were given; 1 to {Config.Context} ids and {Config.Classes} classes are needed.");
        }

        CheckIds(ids_T);
        using var scope = NewDisposeScope();
        using var inference = inference_mode();
        var x_TC = Blocks(Ids(ids_T), new Pass(1));
        int[] last = [ids_T.Length - 1];
        var x_1C = Pools ? DocumentPooling.Of(FinalNorm(x_TC), last, 1, Config.Pooling) : FinalNorm(x_TC.narrow(0, last[0], 1));
        var logits = Head(x_1C).to(float64).log_softmax(1).cpu().contiguous();
        MemoryMarshal.Cast<byte, double>(logits.bytes).CopyTo(logProbabilities);
    }

    /// <summary>Log-probabilities of the classes of a document, of which a classifier sees the begin; an empty one is the end of text alone.</summary>
    /// <param name="ids">Of any length.</param>
    /// <param name="logProbabilities">Receives one number a class, in nats.</param>
    public void ClassifyDocument(ReadOnlySpan<int> ids, Span<double> logProbabilities) =>
        Classify(ids.Length == 0 ? [EndOfTextId] : ids[..Math.Min(ids.Length, Config.Context)], logProbabilities);

    /// <inheritdoc/>
    public IncrementalState BeginGeneration(int batch) => Config is { Classes: 0, Objective: Objective.Causal } ? new NetworkState(this, batch)
        : Config.Classes == 0 ? throw new InvalidOperationException("The model was trained to fill in masked tokens (objective: masked) and continues no text. Fine-tune it, or train one with objective: causal.")
        : throw new InvalidOperationException($"The model tells {string.Join(", ", Config.Labels!.Take(5))} apart and generates no text. Classify with it.");

    /// <inheritdoc/>
    public void Dispose()
    {
        _parameters.Dispose();
        _constants.ForEach(constant => constant.Dispose());
        GC.SuppressFinalize(this);
    }

    /// <summary>Number of blocks between the embedding and the final norm.</summary>
    private protected abstract int BlockCount { get; }

    /// <summary>
    /// It is a classifier that reads more than the last id. Its dropout before the head is behind the pooling: a largest value
    /// among those that are scaled up in training would be another one without.
    /// </summary>
    private protected bool Pools => Config.Pooling != Pooling.Last;

    /// <summary>(N, C) for (N) ids.</summary>
    private protected abstract Tensor Embed(Tensor ids_N, Pass pass);

    /// <summary>Block <paramref name="index"/>: (N, C) to (N, C).</summary>
    private protected abstract Tensor Block(int index, Tensor x_NC, Pass pass);

    /// <summary>What comes after the last block, row by row: (N, C) to (N, C).</summary>
    private protected abstract Tensor FinalNorm(Tensor x_NC);

    /// <summary>Row by row: (N, C) to (N, V).</summary>
    private protected abstract Tensor Logits(Tensor x_NC);

    /// <summary>What a part keeps between the ids of a generation; part 0 is the embedding, part i + 1 is block i. Null for nothing.</summary>
    internal abstract IDisposable? BeginPart(int part, int batch);

    /// <summary>Appends T ids to each sequence of a generation.</summary>
    /// <returns>(B, V), the logits after the last of them.</returns>
    internal Tensor Append(ReadOnlySpan<int> ids_BT, Pass pass)
    {
        var x_NC = Blocks(Ids(ids_BT), pass);
        var last_BC = x_NC.view(pass.Batch, ids_BT.Length / pass.Batch, -1).select(1, (ids_BT.Length / pass.Batch) - 1);
        return Logits(FinalNorm(last_BC));
    }

    /// <summary>Number of parts that keep something in a generation.</summary>
    internal int PartCount => BlockCount + 1;

    /// <summary>Throws unless all ids are of the vocabulary, or <paramref name="alsoAllowed"/>.</summary>
    internal void CheckIds(ReadOnlySpan<int> ids, int? alsoAllowed = null)
    {
        for (var i = 0; i < ids.Length; i++)
        {
            if ((uint)ids[i] >= (uint)Config.VocabularySize && ids[i] != alsoAllowed)
            {
                throw new ArgumentException($"Id {ids[i]} at place {i} is not of the model's vocabulary of {Config.VocabularySize} ids. Was the text encoded with another tokenizer?");
            }
        }
    }

    // Targets are ids, or classes of a classifier.
    private void CheckTargets(ReadOnlySpan<int> targets)
    {
        if (Config.Classes == 0)
        {
            CheckIds(targets, IgnoredTarget);
            return;
        }

        foreach (var target in targets)
        {
            if ((uint)target >= (uint)Config.Classes && target != IgnoredTarget)
            {
                throw new ArgumentException($"Class {target} is not of the model's {Config.Classes} classes.");
            }
        }
    }

    /// <summary>The tensor of a name; null when the network has none (a bias of a network without biases).</summary>
    private protected Tensor? Find(string name) => _parameters.Find(name);

    /// <summary>Brings a tensor that is no parameter to the device, and keeps it as long as the network.</summary>
    private protected Tensor Keep(Tensor constant)
    {
        using var scope = NewDisposeScope();
        var kept = constant.to(Device).DetachFromDisposeScope();
        _constants.Add(kept);
        return kept;
    }

    /// <summary>The norm <c>NAME.weight</c>, <c>NAME.bias</c>.</summary>
    private protected Norm NormOf(string name) => new(Find($"{name}.weight")!, Find($"{name}.bias"), Config.NormEpsilon);

    /// <summary>The product <c>NAME.weight</c>, <c>NAME.bias</c>.</summary>
    /// <param name="name">Without the suffix.</param>
    /// <param name="inputFirst">The weight is (in, out), as in GPT-2's files; else (out, in), as elsewhere.</param>
    private protected Linear LinearOf(string name, bool inputFirst) => new(Find($"{name}.weight")!, Find($"{name}.bias"), inputFirst)
    {
        Update = Find(name + ParameterLayout.LoraA) is { } a_RC
            ? new LowRank(a_RC, Find(name + ParameterLayout.LoraB)!, Config.Tuning!.Lora!.Scale, _updateDropout) : null,
    };

    // (M, C) to (M, V) or (M, classes).
    private Tensor Head(Tensor x_MC) => _score is null ? Logits(x_MC) : x_MC.mm(_score.t());

    // The head is the widest product of a small network: rows without a target do not go through it.
    private (Tensor X_MC, Tensor Targets_M) Rows(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int[] places_M, Pass pass)
    {
        var x_NC = Blocks(Ids(inputs_BT), pass with { Padding_B11T = PaddingOf(targets_BT, places_M, pass.Batch) });
        var targets_N = Ids(targets_BT);
        if (Pools)
        {
            var pooled_MC = DocumentPooling.Of(FinalNorm(x_NC), places_M, pass.Batch, Config.Pooling);
            return (pass.Dropout?.Apply(pooled_MC) ?? pooled_MC, targets_N.index_select(0, Ids(places_M)));
        }

        if (places_M.Length < targets_BT.Length)
        {
            var rows_M = Ids(places_M);
            (x_NC, targets_N) = (x_NC.index_select(0, rows_M), targets_N.index_select(0, rows_M));
        }

        return (FinalNorm(x_NC), targets_N);
    }

    // A document to classify ends where its class is the target. Only a network that looks at both sides sees what is behind it.
    private Tensor? PaddingOf(ReadOnlySpan<int> targets_BT, int[] places_M, int batch)
    {
        var time = targets_BT.Length / batch;
        if (Config.Classes == 0 || Config.Objective == Objective.Causal || Array.TrueForAll(places_M, place => (place + 1) % time == 0))
        {
            return null;
        }

        var padding = zeros(targets_BT.Length, float32);
        var values = MemoryMarshal.Cast<byte, float>(padding.bytes);
        foreach (var place in places_M)
        {
            values.Slice(place + 1, time - 1 - (place % time)).Fill(float.NegativeInfinity);
        }

        return padding.view(batch, 1, 1, time).On(Device);
    }

    private static int[] Places(ReadOnlySpan<int> targets_BT)
    {
        var places = new int[targets_BT.Length - targets_BT.Count(IgnoredTarget)];
        for (int i = 0, m = 0; m < places.Length; i++)
        {
            if (targets_BT[i] != IgnoredTarget)
            {
                places[m++] = i;
            }
        }

        return places;
    }

    private Tensor Hidden(Tensor ids_N, Pass pass) => FinalNorm(Blocks(ids_N, pass));

    private Tensor Blocks(Tensor ids_N, Pass pass)
    {
        var x_NC = Embed(ids_N, pass);
        for (var i = 0; i < BlockCount; i++)
        {
            x_NC = Block(i, Cut(x_NC, i + 1, pass), pass);
        }

        return Cut(x_NC, BlockCount + 1, pass);
    }

    // The backward pass stops before what a part was given, and says that the part is done.
    private static Tensor Cut(Tensor x_NC, int part, Pass pass) => pass.PartDone is not { } done || !x_NC.requires_grad ? x_NC
        : pass.Tape!.Cut(x_NC.detach(), gradient =>
        {
            done(part);
            Tape.Continue(x_NC, gradient);
        });

    private Tensor Ids(ReadOnlySpan<int> ids) => HostTensors.Int64(ids, Device);

    private int CheckBatch(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch)
    {
        if (batch < 1 || inputs_BT.Length == 0 || inputs_BT.Length % batch != 0 || targets_BT.Length != inputs_BT.Length || inputs_BT.Length / batch > Config.Context)
        {
            throw new ArgumentException(
                $"{inputs_BT.Length} inputs and {targets_BT.Length} targets were given; {batch} sequences of 1 to {Config.Context} of each are needed.");
        }

        CheckIds(inputs_BT);
        CheckTargets(targets_BT);
        return inputs_BT.Length / batch;
    }
}

/// <summary>A contiguous range of a network's gradient.</summary>
/// <param name="Offset">First element.</param>
/// <param name="Length">Elements.</param>
/// <param name="Part">It is whole when a backward pass is done with this part, see <see cref="LanguageModel.AccumulateGradients"/>.</param>
public sealed record GradientRange(int Offset, int Length, int Part);
