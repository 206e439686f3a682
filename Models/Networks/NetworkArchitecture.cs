using System.Text.Json.Nodes;
using TorchSharp;

namespace LlmPipeline.Models.Networks;

/// <summary>What is particular to one architecture: the sizes it accepts, its tensors, its files, the network itself.</summary>
internal abstract class NetworkArchitecture
{
    /// <summary>All architectures of networks.</summary>
    public static IReadOnlyList<NetworkArchitecture> All { get; } =
    [
        new GptArchitecture(),
        new LlamaArchitecture(),
        new FeedForwardArchitecture(),
        new RecurrentArchitecture(new Rnn()),
        new RecurrentArchitecture(new Lstm()),
        new RecurrentArchitecture(new Gru()),
    ];

    /// <summary><c>model_type</c> in <c>config.json</c>, and <c>model.architecture</c> in a run file.</summary>
    public abstract string Name { get; }

    /// <summary>Prefix of tensor names that some writers leave out; empty when there is none.</summary>
    public virtual string Prefix => "";

    /// <summary>Name of the input embedding, (V, C).</summary>
    public abstract string Embedding { get; }

    /// <summary>Name of the output embedding, (V, C): another tensor, or the same as <see cref="Embedding"/> where <see cref="ModelConfig.Tied"/>.</summary>
    public virtual string Head => "lm_head.weight";

    /// <summary>It has attention, which can look at both sides of a place.</summary>
    public virtual bool HasAttention => false;

    /// <summary>Weights of linear layers are (in, out), as in GPT-2's files; else (out, in).</summary>
    public virtual bool InputFirst => false;

    /// <summary>Last parts of the names of the linear layers in blocks that LoRA can adapt; those of attention first. Empty for none.</summary>
    public virtual IReadOnlyList<string> AdapterTargets => [];

    /// <summary>The block, counted from 0, that a tensor belongs to; null when it is of none.</summary>
    public virtual int? BlockOf(string name) => name.Split('.').FirstOrDefault(part => part.Length > 0 && part.All(char.IsAsciiDigit)) is { } index
        ? int.Parse(index, System.Globalization.CultureInfo.InvariantCulture) : null;

    /// <summary>Whether a tensor belongs to the head over the vocabulary alone: a classifier does not have it.</summary>
    public virtual bool IsHead(string name) => name == Head || name.StartsWith("lm_head.", StringComparison.Ordinal) || name == "projection.weight";

    /// <summary>Whether a tensor embeds tokens or positions.</summary>
    public virtual bool IsEmbedding(string name) => name == Embedding;

    /// <summary>The architecture of a name.</summary>
    /// <exception cref="ArgumentException">There is none.</exception>
    public static NetworkArchitecture Of(string name) => All.FirstOrDefault(a => a.Name == name)
        ?? throw new ArgumentException($"Architecture '{name}' is unknown; there is {string.Join(", ", All.Select(a => a.Name))}.");

    /// <summary>Autocast to 16 bits leads through all of it: no part reads numbers as fp32 without asking for their type.</summary>
    public virtual bool TakesAutocast => false;

    /// <summary>Throws unless a network of this architecture can be made of these sizes; what holds for all is checked already.</summary>
    /// <exception cref="ArgumentException">A size is not possible; the message names it.</exception>
    public abstract void Validate(ModelConfig config);

    /// <summary>Name and shape of every tensor that a file has, those with two dimensions first.</summary>
    public abstract IEnumerable<TensorShape> Tensors(ModelConfig config);

    /// <summary>Fills a tensor with fresh values.</summary>
    /// <param name="config">Sizes.</param>
    /// <param name="view">The tensor.</param>
    /// <param name="values">Its elements; 0.</param>
    /// <param name="seed">Seed of this tensor.</param>
    public abstract void Initialize(ModelConfig config, ParameterView view, Span<float> values, ulong seed);

    /// <summary>A network whose parameters are all 0.</summary>
    public abstract LanguageModel Create(ModelConfig config, torch.Device device);

    /// <summary>What <c>config.json</c> says.</summary>
    public abstract JsonObject WriteConfig(ModelConfig config);

    /// <summary>Reads <c>config.json</c>.</summary>
    /// <exception cref="InvalidDataException">A key is missing or wrong, or it describes a network that this project does not have.</exception>
    public abstract ModelConfig ReadConfig(ConfigKeys keys);

    /// <summary>Whether a tensor of a file is none of the network's and may be passed over.</summary>
    public virtual bool IsIgnored(string name) => false;
}

/// <summary>A tensor of an architecture.</summary>
/// <param name="Name">Its key in checkpoints.</param>
/// <param name="Shape">Its sizes.</param>
/// <param name="IsBias">It is left out where <see cref="ModelConfig.Bias"/> is false (and written as 0, for other readers).</param>
internal sealed record TensorShape(string Name, long[] Shape, bool IsBias = false);
