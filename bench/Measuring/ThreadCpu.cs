using System.Runtime.InteropServices;

namespace LlmPipeline.Bench.Measuring;

/// <summary>CPU time of the calling thread, in nanosecond resolution (POSIX).</summary>
internal static partial class ThreadCpu
{
    private const int ThreadCpuTime = 3; // CLOCK_THREAD_CPUTIME_ID of Linux

    public static double Seconds => clock_gettime(ThreadCpuTime, out var time) == 0
        ? time.Seconds + (time.Nanoseconds / 1e9)
        : throw new InvalidOperationException("The system does not tell the CPU time of a thread.");

    [LibraryImport("libc")]
    private static partial int clock_gettime(int clock, out TimeSpec time);

    [StructLayout(LayoutKind.Sequential)]
    private struct TimeSpec
    {
        public long Seconds;
        public long Nanoseconds;
    }
}
