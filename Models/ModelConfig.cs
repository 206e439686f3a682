namespace LlmPipeline.Models;

/// <summary>Sizes of a network.</summary>
public sealed record ModelConfig
{
    /// <summary><c>model_type</c>: "gpt2", "llama", "feed-forward", "rnn", "lstm" or "gru".</summary>
    public string Architecture { get; init; } = "gpt2";

    /// <summary>Number of ids.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Number of blocks.</summary>
    public required int Layers { get; init; }

    /// <summary>Number of attention heads; divides <see cref="Width"/>. 0 without attention.</summary>
    public int Heads { get; init; }

    /// <summary>Llama: heads of keys and values; divides <see cref="Heads"/>.</summary>
    public int KvHeads { get; init; }

    /// <summary>Llama: channels of a head where they are not <see cref="Width"/> / <see cref="Heads"/>; else 0.</summary>
    public int HeadSize { get; init; }

    /// <summary>Llama: channels within the feed-forward part.</summary>
    public int FeedForwardWidth { get; init; }

    /// <summary>Llama: base of the rotary positions' wavelengths.</summary>
    public double RopeTheta { get; init; } = 10_000;

    /// <summary>Channels of the residual stream, or of a recurrent state.</summary>
    public required int Width { get; init; }

    /// <summary>Channels of the embedding of a recurrent or feed-forward network; null: as <see cref="Width"/>.</summary>
    public int? EmbeddingWidth { get; init; }

    /// <summary>Tokens that a prediction of a feed-forward network sees; 0 for others.</summary>
    public int Window { get; init; }

    /// <summary>A feed-forward network's head sees the embeddings beside the last hidden layer.</summary>
    public bool DirectConnections { get; init; }

    /// <summary>Dropout of a recurrent network takes the same channels of a sequence at all time steps (Gal and Ghahramani 2016).</summary>
    public bool VariationalDropout { get; init; }

    /// <summary>Share of the weights between the states of a recurrent network that are 0 in a micro-batch (weight drop; Merity et al. 2018).</summary>
    public double RecurrentDropout { get; init; }

    /// <summary>Context length in tokens; for a network without a limit, the length of the sequences that it is trained on.</summary>
    public required int Context { get; init; }

    /// <summary>Dropout probability in training.</summary>
    public double Dropout { get; init; }

    /// <summary>The output embedding is the input embedding.</summary>
    public bool Tied { get; init; } = true;

    /// <summary>Biases in linear layers and LayerNorms.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>What it predicts. A masked Transformer looks at both sides of a place.</summary>
    public Objective Objective { get; init; }

    /// <summary>Id that stands for a masked token; null for a causal network.</summary>
    public int? MaskTokenId { get; init; }

    /// <summary>Id of <c>&lt;|endoftext|&gt;</c>.</summary>
    public int EndOfTextId { get; init; }

    /// <summary>Id that every text begins with, as Llamas of others have it; null where <see cref="EndOfTextId"/> is all there is.</summary>
    public int? BeginOfTextId { get; init; }

    /// <summary>What a norm adds to the variance.</summary>
    public double NormEpsilon { get; init; } = 1e-5;

    /// <summary>Channels of a head.</summary>
    internal int HeadWidth => HeadSize > 0 ? HeadSize : Width / Heads;

    /// <summary>
    /// Names of the classes that the network tells apart: it has a classification head, (classes, C) or (classes, 3 C), in place of one over the
    /// vocabulary. Null for a language model.
    /// </summary>
    public IReadOnlyList<string>? Labels { get; init; }

    /// <summary>What the classification head reads; <see cref="Pooling.Last"/> for a language model.</summary>
    public Pooling Pooling { get; init; }

    /// <summary>Number of classes; 0 for a language model.</summary>
    public int Classes => Labels?.Count ?? 0;

    /// <summary>What of it is trained; null for all. Not part of a model's files.</summary>
    public TuningOptions? Tuning { get; init; }

    /// <summary>Throws unless a network can be made of these sizes.</summary>
    /// <exception cref="ArgumentException">A size is not possible; the message names it.</exception>
    public void Validate()
    {
        var architecture = Networks.NetworkArchitecture.Of(Architecture);
        Check(VocabularySize is > 0 and <= 1 << 24, $"VocabularySize is {VocabularySize}; it must be in 1..{1 << 24}.");
        Check(Layers is > 0 and <= 1024, $"Layers is {Layers}; it must be in 1..1024.");
        Check(Width is > 0 and <= 1 << 16, $"Width is {Width}; it must be in 1..{1 << 16}.");
        Check(Context is > 0 and <= 1 << 20, $"Context is {Context}; it must be in 1..{1 << 20}.");
        Check(Dropout is >= 0 and < 1, $"Dropout is {Dropout}; it must be at least 0 and less than 1.");
        Check(EndOfTextId >= 0 && EndOfTextId < VocabularySize, $"EndOfTextId is {EndOfTextId}; it must be an id of the vocabulary, that is less than {VocabularySize}.");
        Check(BeginOfTextId is null || (BeginOfTextId >= 0 && BeginOfTextId < VocabularySize), $"BeginOfTextId is {BeginOfTextId}; it must be an id of the vocabulary, that is less than {VocabularySize}.");
        Check(NormEpsilon is > 0 and < 1, $"NormEpsilon is {NormEpsilon}; it must be more than 0 and less than 1.");
        Check(Labels is null || (Labels.Count is > 1 and <= 1 << 16 && Labels.All(l => l.Length > 0) && Labels.Distinct().Count() == Labels.Count),
            $"Labels are {string.Join(", ", Labels?.Take(5).Select(l => $"'{l}'") ?? [])}; there must be 2 to {1 << 16} of them, all different and none empty.");
        Check(EmbeddingWidth is null or > 0 and <= 1 << 16, $"EmbeddingWidth is {EmbeddingWidth}; it must be in 1..{1 << 16}.");
        Check(RecurrentDropout is >= 0 and < 1, $"RecurrentDropout is {RecurrentDropout}; it must be at least 0 and less than 1.");
        Check(Objective == Objective.Causal || architecture.HasAttention, $"Objective is Masked, but a network of the architecture {Architecture} sees only what comes before a place.");
        Check(Objective == Objective.Causal ? MaskTokenId is null : MaskTokenId >= 0 && MaskTokenId < VocabularySize,
            $"MaskTokenId is {MaskTokenId?.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "null"}; it must be an id of the vocabulary where Objective is Masked, and null elsewhere.");
        Check(Labels is null || !DirectConnections, "Labels and DirectConnections are set; connections from the embedding to the vocabulary have no place in a classifier.");
        Check(Labels is not null || Pooling == Pooling.Last, $"Pooling is {Pooling}, but there are no Labels; a language model predicts at each place by itself.");
        architecture.Validate(this);
        Tuning?.Validate(this, architecture);
    }

    /// <summary>Throws with a message unless the condition holds.</summary>
    internal static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new ArgumentException(message);
        }
    }
}
