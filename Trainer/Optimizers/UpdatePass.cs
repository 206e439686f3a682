using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace LlmPipeline.Trainer.Optimizers;

/// <summary>What happens to gradient and parameter before the rule.</summary>
internal readonly record struct GradientTerms
{
    /// <summary>Multiplies the gradient.</summary>
    public required float Factor { get; init; }

    /// <summary>Then its largest magnitude.</summary>
    public required float Limit { get; init; }

    /// <summary>Then this times the parameter is added to it.</summary>
    public required float L2 { get; init; }

    /// <summary>Multiplies the parameter.</summary>
    public required float Keep { get; init; }
}

/// <summary>The part of an update rule that is its own, for 16 elements.</summary>
internal interface IUpdateRule
{
    /// <summary>The new parameter.</summary>
    /// <param name="p">The parameter.</param>
    /// <param name="g">Its gradient.</param>
    /// <param name="first">The rule's first state buffer, if it has one.</param>
    /// <param name="second">Its second.</param>
    /// <param name="third">Its third.</param>
    Vector512<float> Apply(Vector512<float> p, Vector512<float> g, ref Vector512<float> first, ref Vector512<float> second, ref Vector512<float> third);
}

/// <summary>Spans of the same length.</summary>
/// <param name="parameters">Parameters.</param>
/// <param name="gradients">Gradients.</param>
/// <param name="stateCount">How many of the state buffers there are; the others are empty.</param>
/// <param name="first">The first state buffer.</param>
/// <param name="second">The second.</param>
/// <param name="third">The third.</param>
internal readonly ref struct UpdateBuffers(
    Span<float> parameters, ReadOnlySpan<float> gradients, int stateCount, Span<float> first, Span<float> second, Span<float> third)
{
    public Span<float> Parameters { get; } = parameters;

    public ReadOnlySpan<float> Gradients { get; } = gradients;

    public int StateCount { get; } = stateCount;

    public Span<float> First { get; } = first;

    public Span<float> Second { get; } = second;

    public Span<float> Third { get; } = third;

    public int Length => Parameters.Length;

    public UpdateBuffers Slice(int start, int length) => new(
        Parameters.Slice(start, length), Gradients.Slice(start, length), StateCount,
        StateCount > 0 ? First.Slice(start, length) : [],
        StateCount > 1 ? Second.Slice(start, length) : [],
        StateCount > 2 ? Third.Slice(start, length) : []);

    public void CopyTo(UpdateBuffers destination)
    {
        Parameters.CopyTo(destination.Parameters);
        First.CopyTo(destination.First);
        Second.CopyTo(destination.Second);
        Third.CopyTo(destination.Third);
    }
}

/// <summary>
/// The pass over memory that all rules share. <see cref="Vector512"/> is emulated where the machine has narrower vectors: every
/// operation is elementwise and rounds once, so the width does not show in the result.
/// </summary>
internal static class UpdatePass
{
    private const int Width = 16;

    // Elements ahead that are asked for: the processor's own prefetching ends with each page of 4 KiB.
    private const int PrefetchDistance = 512;

    /// <summary>Updates parameters and state.</summary>
    public static void Run<TRule>(in TRule rule, in GradientTerms terms, UpdateBuffers buffers)
        where TRule : struct, IUpdateRule
    {
        var whole = buffers.Length - (buffers.Length % Width);
        RunWhole(rule, terms, buffers[..whole]);
        if (whole < buffers.Length)
        {
            // The rest is padded to a whole vector, so that there is one formula.
            var rest = buffers[whole..];
            Span<float> p = stackalloc float[Width];
            Span<float> g = stackalloc float[Width];
            Span<float> first = stackalloc float[Width];
            Span<float> second = stackalloc float[Width];
            Span<float> third = stackalloc float[Width];
            rest.Gradients.CopyTo(g);
            var padded = new UpdateBuffers(p, g, rest.StateCount, first, second, third);
            rest.CopyTo(padded);
            RunWhole(rule, terms, padded);
            padded[..rest.Length].CopyTo(rest);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static unsafe void Prefetch(ref float buffer, nuint i) => Sse.Prefetch0((float*)Unsafe.AsPointer(ref buffer) + i + PrefetchDistance);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunWhole<TRule>(TRule rule, GradientTerms terms, UpdateBuffers buffers)
        where TRule : struct, IUpdateRule
    {
        ref var parameter = ref MemoryMarshal.GetReference(buffers.Parameters);
        ref var gradient = ref MemoryMarshal.GetReference(buffers.Gradients);
        ref var first = ref MemoryMarshal.GetReference(buffers.First);
        ref var second = ref MemoryMarshal.GetReference(buffers.Second);
        ref var third = ref MemoryMarshal.GetReference(buffers.Third);
        var (length, stateCount) = ((nuint)buffers.Length, buffers.StateCount);
        var (factor, l2, keep) = (Vector512.Create(terms.Factor), Vector512.Create(terms.L2), Vector512.Create(terms.Keep));
        var (least, most) = (Vector512.Create(-terms.Limit), Vector512.Create(terms.Limit));
        for (nuint i = 0; i < length; i += Width)
        {
            if (Sse.IsSupported)
            {
                Prefetch(ref parameter, i);
                Prefetch(ref gradient, i);
                if (stateCount > 0)
                {
                    Prefetch(ref first, i);
                }

                if (stateCount > 1)
                {
                    Prefetch(ref second, i);
                }
            }

            var p = Vector512.LoadUnsafe(ref parameter, i);
            var g = Vector512.MaxNative(least, Vector512.MinNative(most, Vector512.LoadUnsafe(ref gradient, i) * factor)) + (l2 * p);
            var a = stateCount > 0 ? Vector512.LoadUnsafe(ref first, i) : default;
            var b = stateCount > 1 ? Vector512.LoadUnsafe(ref second, i) : default;
            var c = stateCount > 2 ? Vector512.LoadUnsafe(ref third, i) : default;
            rule.Apply(p * keep, g, ref a, ref b, ref c).StoreUnsafe(ref parameter, i);
            if (stateCount > 0)
            {
                a.StoreUnsafe(ref first, i);
            }

            if (stateCount > 1)
            {
                b.StoreUnsafe(ref second, i);
            }

            if (stateCount > 2)
            {
                c.StoreUnsafe(ref third, i);
            }
        }
    }
}
