"""All-reduce of fp32 numbers by Gloo, for bench allreduce.

    allreduce_gloo.py RANK SIZE LENGTH PORT

Each line of standard input is a number of all-reduces to run; each is answered by a line "wall seconds, CPU seconds, 0" a run.
"""
import datetime
import os
import resource
import sys
import time

import torch
import torch.distributed as dist

rank, size, length, port = (int(a) for a in sys.argv[1:])
torch.set_num_threads(1)
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size, timeout=datetime.timedelta(seconds=120))
values = torch.full((length,), float(rank + 1))


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        values.fill_(float(rank + 1))
        dist.barrier()
        wall, used = time.perf_counter(), cpu()
        dist.all_reduce(values)
        print(time.perf_counter() - wall, cpu() - used, 0, flush=True)
        assert values[0] == values[-1] == size * (size + 1) / 2
    print("done", flush=True)
