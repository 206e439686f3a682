"""Records logits and gradients of PyTorch's own recurrent modules: python3 record_recurrent.py > recurrent.json

The weights follow from a formula, so that they need not be recorded: element k of tensor number i is sin(0.37 k + i) / 2.
"""
import json
import math
import sys

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY, EMBEDDING, HIDDEN, LAYERS = 7, 3, 5, 2
IDS = [[1, 4, 2, 6, 0, 3], [5, 5, 1, 0, 2, 4]]
TARGETS = [[4, 2, 6, 0, 3, 3], [5, 1, 0, 2, 4, 6]]


def record(name, module):
    embedding, head = nn.Embedding(VOCABULARY, EMBEDDING), nn.Linear(HIDDEN, VOCABULARY)
    tensors = {"embedding.weight": embedding.weight}
    tensors.update({f"{name}.{key}": value for key, value in module.named_parameters()})
    tensors.update({"lm_head.weight": head.weight, "lm_head.bias": head.bias})
    for number, tensor in enumerate(tensors.values()):
        values = [math.sin(0.37 * k + number) / 2 for k in range(tensor.numel())]
        tensor.data = torch.tensor(values).view_as(tensor)
    logits = head(module(embedding(torch.tensor(IDS)))[0])
    F.cross_entropy(logits.view(-1, VOCABULARY), torch.tensor(TARGETS).view(-1)).backward()
    return {
        "tensors": list(tensors),
        "logits": [round(v, 7) for v in logits.flatten().tolist()],
        "gradients": {key: [round(v, 7) for v in tensor.grad.flatten().tolist()] for key, tensor in tensors.items()},
    }


torch.manual_seed(0)
networks = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
json.dump({
    "torch": torch.__version__,
    "vocabulary": VOCABULARY, "embedding": EMBEDDING, "hidden": HIDDEN, "layers": LAYERS,
    "ids": sum(IDS, []), "targets": sum(TARGETS, []),
    "networks": {name: record(name, kind(EMBEDDING, HIDDEN, LAYERS, batch_first=True)) for name, kind in networks.items()},
}, sys.stdout, indent=None, separators=(",", ":"))
print()
