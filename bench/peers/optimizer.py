"""PyTorch's AdamW with clipping over the parameters of a Transformer of 6 layers and width 384, on one thread.

    python3 optimizer.py for-loop|foreach STEPS

Prints the median milliseconds of a step (clip_grad_norm_, then step), wall and CPU time.
"""
import sys
import time

import torch

torch.set_num_threads(1)
C, LAYERS, V, T = 384, 6, 65, 256
matrices = [(V, C), (T, C)] + [shape for _ in range(LAYERS) for shape in ((3 * C, C), (C, C), (4 * C, C), (C, 4 * C))]
vectors = [(C,)] * (2 * LAYERS + 1)
torch.manual_seed(1)
decayed = [torch.nn.Parameter(torch.randn(s) * 0.02) for s in matrices]
others = [torch.nn.Parameter(torch.ones(s)) for s in vectors]
parameters = decayed + others
foreach = sys.argv[1] == "foreach"
groups = [dict(params=decayed, weight_decay=0.1), dict(params=others, weight_decay=0.0)]
optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), eps=1e-8, foreach=foreach)
gradients = [torch.randn_like(p) * 1e-3 for p in parameters]
for p in parameters:
    p.grad = torch.empty_like(p)

wall, cpu = [], []
for step in range(int(sys.argv[2])):
    for p, g in zip(parameters, gradients):
        p.grad.copy_(g)  # clipping changes it
    start, start_cpu = time.perf_counter(), time.thread_time()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    wall.append(time.perf_counter() - start)
    cpu.append(time.thread_time() - start_cpu)

median = lambda values: sorted(values[5:])[len(values[5:]) // 2]
print(f"parameters={sum(p.numel() for p in parameters)}")
print(f"wall_seconds={median(wall)}")
print(f"cpu_seconds={median(cpu)}")
