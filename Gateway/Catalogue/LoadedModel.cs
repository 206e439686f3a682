using LlmPipeline.Models;
using LlmPipeline.Text;

namespace LlmPipeline.Gateway.Catalogue;

/// <summary>A model in memory, shared by reference count: it goes when the catalogue and the last generation let go of it.</summary>
internal sealed class LoadedModel(ModelVersion version, ITokenModel model, ITokenizer tokenizer)
{
    private int _references = 1;

    public ModelVersion Version { get; } = version;

    /// <summary>Used by the engine's thread alone.</summary>
    public ITokenModel Model { get; } = model;

    public ITokenizer Tokenizer { get; } = tokenizer;

    /// <summary>Whether only the catalogue holds it.</summary>
    public bool IsIdle => Volatile.Read(ref _references) == 1;

    /// <summary>When it was last asked for; orders eviction.</summary>
    public long LastUsed { get; set; }

    /// <summary>Keeps the model in memory until <see cref="Release"/>. Called under the catalogue's lock, while the catalogue holds it.</summary>
    public LoadedModel AddReference()
    {
        Interlocked.Increment(ref _references);
        return this;
    }

    public void Release()
    {
        if (Interlocked.Decrement(ref _references) == 0)
        {
            Model.Dispose();
        }
    }
}
