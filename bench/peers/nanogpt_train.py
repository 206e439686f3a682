"""nanoGPT's model and training loop (github.com/karpathy/nanoGPT), written anew for plain PyTorch on a CPU, timed step by step.

    python3 nanogpt_train.py LAYERS HEADS WIDTH CONTEXT BATCH VOCABULARY PRECISION STEPS WARMUP

As there: pre-LayerNorm blocks without biases, learned positions, GELU, tied embedding, causal attention by a mask where
PyTorch has no fused one; AdamW with decay of matrices only, clipping at 1, warm-up and cosine; autocast for bfloat16.
Prints the medians of the timed steps in milliseconds, and the largest resident set in bytes.
"""
import contextlib
import math
import resource
import statistics
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
    def __init__(self, width, heads, context):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.fused = hasattr(F, "scaled_dot_product_attention")
        self.register_buffer("visible", torch.ones(context, context).tril().view(1, 1, context, context))

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.qkv(x).split(width, dim=2))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.shape[-1]))
            scores = scores.masked_fill(self.visible[:, :, :length, :length] == 0, float("-inf"))
            y = F.softmax(scores, dim=-1) @ v
        return self.out(y.transpose(1, 2).contiguous().view(batch, length, width))


class Block(nn.Module):
    def __init__(self, width, heads, context):
        super().__init__()
        self.norm1 = Norm(width)
        self.attention = Attention(width, heads, context)
        self.norm2 = Norm(width)
        self.widen = nn.Linear(width, 4 * width, bias=False)
        self.narrow = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(F.gelu(self.widen(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self, layers, heads, width, context, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, context) for _ in range(layers))
        self.norm = Norm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                back = name.endswith(("out.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if back else 0.02)

    def forward(self, ids, targets):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
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
    torch.manual_seed(1337)
    torch.set_num_threads(1)
    data = np.random.default_rng(1).integers(0, vocabulary, 1_000_000).astype(np.uint16)
    model = Transformer(layers, heads, width, context, vocabulary)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.99))
    scope = (lambda: torch.autocast("cpu", dtype=torch.bfloat16)) if precision == "bf16" else contextlib.nullcontext

    def read():
        places = torch.randint(len(data) - context, (batch,))
        ids = torch.stack([torch.from_numpy(data[i:i + context].astype(np.int64)) for i in places])
        targets = torch.stack([torch.from_numpy(data[i + 1:i + 1 + context].astype(np.int64)) for i in places])
        return ids, targets

    ids, targets = read()
    wall, cpu, loss = [], [], None
    for step in range(warmup + steps):
        start, used = time.perf_counter(), time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        with scope():
            loss = model(ids, targets)
        ids, targets = read()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 10 == 0:
            loss.item()
        if step >= warmup:
            wall.append(1e3 * (time.perf_counter() - start))
            cpu.append(1e3 * (time.process_time() - used))

    print(f"loss={loss.item():.4f}")
    print(f"version={torch.__version__}")
    print(f"step_wall_ms={statistics.median(wall):.4f}")
    print(f"step_cpu_ms={statistics.median(cpu):.4f}")
    print(f"peak_bytes={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}")


main()
