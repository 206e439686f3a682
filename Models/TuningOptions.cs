namespace LlmPipeline.Models;

/// <summary>What of a network is trained; the rest keeps its values, and takes neither gradients nor optimizer state.</summary>
public sealed record TuningOptions
{
    /// <summary>That many first blocks are not trained.</summary>
    public int FrozenBlocks { get; init; }

    /// <summary>The embeddings of tokens and positions are not trained, nor is a head that is tied to them.</summary>
    public bool FrozenEmbedding { get; init; }

    /// <summary>Only low-rank updates of linear layers are trained, and a classification head; null without.</summary>
    public LoraOptions? Lora { get; init; }

    /// <summary>With <see cref="Lora"/>: the token embedding and the head are trained too, for the sake of ids that are new.</summary>
    public bool TrainedEmbedding { get; init; }

    /// <summary>Throws unless the network has what is named.</summary>
    /// <exception cref="ArgumentException">It has not; the message names it.</exception>
    internal void Validate(ModelConfig config, Networks.NetworkArchitecture architecture)
    {
        ModelConfig.Check(FrozenBlocks >= 0 && FrozenBlocks <= config.Layers, $"FrozenBlocks is {FrozenBlocks}; it must be in 0..{config.Layers}, the blocks of the network.");
        if (Lora is null)
        {
            ModelConfig.Check(!TrainedEmbedding, "TrainedEmbedding is set, but Lora is not; without it the embedding is trained anyway.");
            return;
        }

        ModelConfig.Check(FrozenBlocks == 0 && !FrozenEmbedding, "Lora is set, and FrozenBlocks or FrozenEmbedding too; give one of them.");
        ModelConfig.Check(architecture.AdapterTargets.Count > 0, $"A network of architecture {config.Architecture} has no linear layers that LoRA can adapt.");
        ModelConfig.Check(Lora.Rank is > 0 and <= 1 << 16, $"Lora.Rank is {Lora.Rank}; it must be in 1..{1 << 16}.");
        ModelConfig.Check(Lora.Alpha is > 0 and <= 1e6, $"Lora.Alpha is {Lora.Alpha}; it must be above 0 and at most 1e6.");
        ModelConfig.Check(Lora.Dropout is >= 0 and < 1, $"Lora.Dropout is {Lora.Dropout}; it must be at least 0 and less than 1.");
        ModelConfig.Check(Lora.Targets.Count > 0, $"Lora.Targets is empty; name some of {string.Join(", ", architecture.AdapterTargets)}.");
        foreach (var target in Lora.Targets)
        {
            ModelConfig.Check(architecture.AdapterTargets.Contains(target), $"Lora.Targets names '{target}'; LoRA can adapt {string.Join(", ", architecture.AdapterTargets)}.");
        }
    }
}

/// <summary>Low-rank adaptation (Hu et al. 2021): y = xW + (alpha / rank) x A B, where A is (in, rank) and B, 0 at first, is (rank, out).</summary>
public sealed record LoraOptions
{
    /// <summary>Columns of A.</summary>
    public required int Rank { get; init; }

    /// <summary>The update is scaled by alpha / rank.</summary>
    public required double Alpha { get; init; }

    /// <summary>Last parts of the names of the layers that are adapted, for example <c>c_attn</c>.</summary>
    public required IReadOnlyList<string> Targets { get; init; }

    /// <summary>Dropout probability of x on its way to A, in training.</summary>
    public double Dropout { get; init; }

    /// <summary>alpha / rank.</summary>
    internal double Scale => Alpha / Rank;
}
