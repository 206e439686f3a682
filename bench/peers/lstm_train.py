"""Steps of training an LSTM language model in PyTorch, for bench recurrent-speed.

    lstm_train.py IDS VOCABULARY LAYERS WIDTH BATCH TIME DROPOUT OPTIMIZER STEPS WARMUP

IDS is a file of 32-bit integers. The model and the loop are the usual ones: embedding, dropout, nn.LSTM with dropout between its
layers, dropout, linear head; loss of all places, gradient clipping, optimizer step. Prints name=number lines.
"""
import resource
import statistics
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    def __init__(self, vocabulary, layers, width, dropout):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, dropout=dropout)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids):
        return self.head(self.drop(self.lstm(self.drop(self.embedding(ids)))[0]))


def main():
    path, kind = sys.argv[1], sys.argv[8]
    vocabulary, layers, width, batch, length = map(int, sys.argv[2:7])
    dropout, steps, warmup = float(sys.argv[7]), int(sys.argv[9]), int(sys.argv[10])
    torch.manual_seed(1)
    torch.set_num_threads(1)
    data = torch.from_numpy(np.fromfile(path, dtype=np.int32).astype(np.int64))
    columns = data[: len(data) // batch * batch].view(batch, -1).t().contiguous()
    model = Model(vocabulary, layers, width, dropout)
    if kind == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=20)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    wall, cpu = [], []
    for step in range(warmup + steps):
        start, used = time.perf_counter(), time.process_time()
        at = step * length
        optimizer.zero_grad(set_to_none=True)
        logits = model(columns[at : at + length])
        loss = F.cross_entropy(logits.view(-1, vocabulary), columns[at + 1 : at + 1 + length].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        loss.item()
        if step >= warmup:
            wall.append(1e3 * (time.perf_counter() - start))
            cpu.append(1e3 * (time.process_time() - used))

    print(f"loss={loss.item():.4f}")
    print(f"parameters={sum(p.numel() for p in model.parameters())}")
    print(f"step_wall_ms={statistics.median(wall):.4f}")
    print(f"step_cpu_ms={statistics.median(cpu):.4f}")
    print(f"peak_bytes={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}")


main()
