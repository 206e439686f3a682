using LlmPipeline.Fakes;
using LlmPipeline.Trainer.Worker;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Tests;

public sealed class WorkerControlTests
{
    [Fact]
    public void AnAssignmentOfACoordinatorThatWasReplacedIsRefused()
    {
        var control = new WorkerControl();
        Assert.True(control.Receive(Plan(version: (7L << 24) + 3, epoch: 8)));
        Assert.False(control.Receive(Plan(version: (6L << 24) + 900, epoch: 9)));
        Assert.False(control.Receive(new Assignment { Version = (6L << 24) + 901 }));
        Assert.Equal(8, control.NextPlan(0, out _)!.Epoch);
        Assert.True(control.HasPlan);

        // One that took over begins with a higher version, and may not have decided anything yet.
        Assert.True(control.Receive(null));
        Assert.True(control.Receive(Plan(version: (9L << 24) + 1, epoch: 10)));
        Assert.Equal(10, control.NextPlan(8, out _)!.Epoch);
    }

    [Theory]
    [InlineData("0::/user/worker\n", "sys/fs/cgroup/user/worker/memory.events", "low 0\noom 3\noom_kill 2\n", 2)]
    [InlineData("0::/hidden\n", "sys/fs/cgroup/memory.events", "oom_kill 1\n", 1)]
    [InlineData("3:cpu:/\n7:memory:/pods/a\n0::/\n", "sys/fs/cgroup/memory/pods/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n", 4)]
    [InlineData("0::/\n", "sys/fs/cgroup/other", "", null)]
    public void KillsForMemoryAreReadFromTheControlGroup(string group, string file, string text, int? kills)
    {
        using var folder = new TemporaryFolder();
        Write("proc/self/cgroup", group);
        Write(file, text);
        Assert.Equal(kills, (int?)ControlGroup.MemoryKills(folder.Path));

        void Write(string name, string content)
        {
            var path = Path.Combine(folder.Path, name);
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.WriteAllText(path, content);
        }
    }

    private static Assignment Plan(long version, long epoch) => new() { Version = version, Epoch = new EpochPlan { Epoch = epoch, Run = "runs/some-run" } };
}
