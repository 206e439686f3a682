"""nanoGPT's model and training loop (github.com/karpathy/nanoGPT), written anew for plain PyTorch, timed step by step.

    python3 nanogpt_train.py LAYERS HEADS WIDTH CONTEXT BATCH VOCABULARY PRECISION STEPS WARMUP [cpu|cuda [eager|compiled [DROPOUT]]]

As there: pre-LayerNorm blocks without biases, learned positions, GELU, tied embedding, causal attention by a mask where
PyTorch has no fused one; AdamW with decay of matrices only, clipping at 1, warm-up and cosine; autocast for bfloat16. On CUDA,
as there, the fused AdamW and page-locked batches, but no TF32; all timed steps are waited for together.
Prints the medians of the timed steps in milliseconds (on CUDA their mean), and the largest resident set in bytes.
"""
import contextlib
import math
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, None, 1e-5)


class Attention(nn.Module):
    def __init__(self, width, heads, context, dropout):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.fused = hasattr(F, "scaled_dot_product_attention")
        self.register_buffer("visible", torch.ones(context, context).tril().view(1, 1, context, context))

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.qkv(x).split(width, dim=2))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout)
        else:
            scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.shape[-1]))
            scores = scores.masked_fill(self.visible[:, :, :length, :length] == 0, float("-inf"))
            y = F.softmax(scores, dim=-1) @ v
        return F.dropout(self.out(y.transpose(1, 2).contiguous().view(batch, length, width)), self.dropout)


class Block(nn.Module):
    def __init__(self, width, heads, context, dropout):
        super().__init__()
        self.dropout = dropout
        self.norm1 = Norm(width)
        self.attention = Attention(width, heads, context, dropout)
        self.norm2 = Norm(width)
        self.widen = nn.Linear(width, 4 * width, bias=False)
        self.narrow = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + F.dropout(self.narrow(F.gelu(self.widen(self.norm2(x)))), self.dropout)


class Transformer(nn.Module):
    def __init__(self, layers, heads, width, context, vocabulary, dropout):
        super().__init__()
        self.dropout = dropout
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, context, dropout) for _ in range(layers))
        self.norm = Norm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                back = name.endswith(("out.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if back else 0.02)

    def forward(self, ids, targets):
        x = F.dropout(self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device)), self.dropout)
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=-1)


def learning_rate(step, warmup=100, last=5000, peak=1e-3, least=1e-4):
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return least + 0.5 * (1 + math.cos(math.pi * (step - warmup) / (last - warmup))) * (peak - least)


def main():
    layers, heads, width, context, batch, vocabulary = map(int, sys.argv[1:7])
    precision, steps, warmup = sys.argv[7], int(sys.argv[8]), int(sys.argv[9])
    device = sys.argv[10] if len(sys.argv) > 10 else "cpu"
    compiled = len(sys.argv) > 11 and sys.argv[11] == "compiled"
    dropout = float(sys.argv[12]) if len(sys.argv) > 12 else 0.0
    torch.manual_seed(1337)
    torch.set_num_threads(1)
    data = np.random.default_rng(1).integers(0, vocabulary, 1_000_000).astype(np.uint16)
    model = Transformer(layers, heads, width, context, vocabulary, dropout).to(device)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.99),
        **({"fused": True} if device == "cuda" else {}))
    parameters = list(model.parameters())
    if compiled:
        model = torch.compile(model)
    scope = (lambda: torch.autocast(device, dtype=torch.bfloat16)) if precision == "bf16" else contextlib.nullcontext

    def read():
        places = torch.randint(len(data) - context, (batch,))
        ids = torch.stack([torch.from_numpy(data[i:i + context].astype(np.int64)) for i in places])
        targets = torch.stack([torch.from_numpy(data[i + 1:i + 1 + context].astype(np.int64)) for i in places])
        return (x.pin_memory().to(device, non_blocking=True) if device == "cuda" else x for x in (ids, targets))

    ids, targets = read()
    wall, cpu, loss = [], [], None
    begin = time.perf_counter()
    for step in range(warmup + steps):
        if step == warmup and device == "cuda":
            torch.cuda.synchronize()
            begin = time.perf_counter()
        start, used = time.perf_counter(), time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        with scope():
            loss = model(ids, targets)
        ids, targets = read()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 10 == 0:
            loss.item()
        if step >= warmup:
            wall.append(1e3 * (time.perf_counter() - start))
            cpu.append(1e3 * (time.process_time() - used))

    if device == "cuda":
        torch.cuda.synchronize()
        wall = [1e3 * (time.perf_counter() - begin) / steps]
        used = subprocess.check_output(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], text=True)
        print(f"device_bytes={int(used) * 1024 * 1024}")

    print(f"loss={loss.item():.4f}")
    print(f"version={torch.__version__}")
    print(f"step_wall_ms={statistics.median(wall):.4f}")
    print(f"step_cpu_ms={statistics.median(cpu):.4f}")
    print(f"peak_bytes={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}")


main()
