"""Records what PyTorch's optimizers and schedulers do, for OptimizerRecordTests and ScheduleRecordTests.

    python3 tests/Trainer.Tests/Recorded/record.py

writes optimizers.json and schedules.json beside this file. The committed files are of PyTorch 1.13.1, CPU, one thread.
"""
import json
import os

import torch

FOLDER = os.path.dirname(os.path.abspath(__file__))
STEPS = 8
DECAYED, OTHERS = 21, 19  # elements of a weight (decayed) and of a bias (not decayed)

ADAM = dict(beta1=0.9, beta2=0.99, epsilon=1e-8)
RMS = dict(alpha=0.95, epsilon=1e-6)
CASES = {
    "sgd": dict(kind="sgd"),
    "sgd, l2": dict(kind="sgd", l2=0.05),
    "sgd, momentum": dict(kind="sgd", momentum=0.9),
    "sgd, momentum, l2": dict(kind="sgd", momentum=0.9, l2=0.05),
    "sgd, momentum, dampening": dict(kind="sgd", momentum=0.8, dampening=0.3),
    "sgd, nesterov": dict(kind="sgd", momentum=0.9, nesterov=True),
    "sgd, nesterov, l2, clip_norm": dict(kind="sgd", momentum=0.9, nesterov=True, l2=0.05, clip_norm=0.7),
    "sgd, momentum, weight_decay": dict(kind="sgd", momentum=0.9, weight_decay=0.2),
    "rmsprop": dict(kind="rmsprop", **RMS),
    "rmsprop, l2": dict(kind="rmsprop", l2=0.05, **RMS),
    "rmsprop, momentum": dict(kind="rmsprop", momentum=0.9, **RMS),
    "rmsprop, centered": dict(kind="rmsprop", centered=True, **RMS),
    "rmsprop, centered, momentum, l2, clip_value": dict(kind="rmsprop", centered=True, momentum=0.9, l2=0.05, clip_value=0.4, **RMS),
    "adam": dict(kind="adam", **ADAM),
    "adam, l2": dict(kind="adam", l2=0.05, **ADAM),
    "adam, l2, clip_norm": dict(kind="adam", l2=0.05, clip_norm=0.7, **ADAM),
    "adam, clip_value": dict(kind="adam", clip_value=0.3, **ADAM),
    "adamw": dict(kind="adamw", weight_decay=0.0, **ADAM),
    "adamw, weight_decay": dict(kind="adamw", weight_decay=0.2, **ADAM),
    "adamw, weight_decay, clip_norm, clip_value": dict(kind="adamw", weight_decay=0.2, clip_norm=0.7, clip_value=0.3, **ADAM),
}


def make(spec, groups, lr):
    kind = spec["kind"]
    # Decoupled decay outside AdamW is not PyTorch's; step() below does it by hand.
    for group, l2 in zip(groups, (spec.get("l2", 0.0), 0.0)):
        group["weight_decay"] = l2
    if kind == "sgd":
        return torch.optim.SGD(groups, lr, momentum=spec.get("momentum", 0), dampening=spec.get("dampening", 0), nesterov=spec.get("nesterov", False))
    if kind == "rmsprop":
        return torch.optim.RMSprop(groups, lr, alpha=spec["alpha"], eps=spec["epsilon"], centered=spec.get("centered", False), momentum=spec.get("momentum", 0))
    adam = dict(betas=(spec["beta1"], spec["beta2"]), eps=spec["epsilon"])
    if kind == "adam":
        return torch.optim.Adam(groups, lr, **adam)
    groups[0]["weight_decay"] = spec["weight_decay"]
    return torch.optim.AdamW(groups, lr, **adam)


def record(name, spec, start, rates, gradients):
    weight, bias = (torch.nn.Parameter(part.clone()) for part in start.split([DECAYED, OTHERS]))
    optimizer = make(spec, [dict(params=[weight]), dict(params=[bias])], 0.01)
    parameters = []
    for lr, gradient in zip(rates, gradients):
        for group in optimizer.param_groups:
            group["lr"] = lr
        weight.grad, bias.grad = (part.clone() for part in gradient.split([DECAYED, OTHERS]))
        if spec.get("clip_norm"):
            torch.nn.utils.clip_grad_norm_([weight, bias], spec["clip_norm"])
        if spec.get("clip_value"):
            torch.nn.utils.clip_grad_value_([weight, bias], spec["clip_value"])
        if spec["kind"] != "adamw" and spec.get("weight_decay"):
            weight.data.mul_(1 - lr * spec["weight_decay"])
        optimizer.step()
        parameters.append(torch.cat([weight.data, bias.data]).tolist())
    names = [n for n in optimizer.state[weight] if n != "step" and optimizer.state[weight][n] is not None] if optimizer.state else []
    state = {n: torch.cat([optimizer.state[p][n] for p in (weight, bias)]).tolist() for n in names}
    return dict(name=name, spec=spec, parameters=parameters, state=state)


def schedule(name, make, spec, total, warmup):
    """The rates of all steps: linear warm-up over `warmup` steps, then the scheduler."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], spec["learning_rate"])
    after = make(optimizer, total - max(1, warmup))
    scheduler = after
    if warmup > 1:
        ramp = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, end_factor=1, total_iters=warmup - 1)
        scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [ramp, after], milestones=[warmup - 1])
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return dict(name=name, spec=dict(spec, warmup_steps=warmup), steps=total, rates=rates)


def schedules():
    from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, StepLR

    peak, least = 1e-3, 1e-4
    ends = dict(learning_rate=peak, min_learning_rate=least)
    for warmup in (0, 10):
        yield schedule(f"constant, warm-up {warmup}", lambda o, n: ConstantLR(o, 1.0, n),
                       dict(schedule="constant", learning_rate=peak), 60, warmup)
        yield schedule(f"step, warm-up {warmup}", lambda o, n: StepLR(o, 15, 0.3),
                       dict(schedule="step", learning_rate=peak, step_size=15, gamma=0.3), 60, warmup)
        yield schedule(f"cosine, warm-up {warmup}", lambda o, n: CosineAnnealingLR(o, n, least),
                       dict(schedule="cosine", **ends), 60, warmup)
        yield schedule(f"linear, warm-up {warmup}", lambda o, n: LinearLR(o, 1.0, least / peak, n),
                       dict(schedule="linear", **ends), 60, warmup)


def optimizers():
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(DECAYED + OTHERS, generator=generator)
    gradients = [torch.randn(DECAYED + OTHERS, generator=generator) * 0.3 for _ in range(STEPS)]
    rates = [0.02 / step ** 0.5 for step in range(1, STEPS + 1)]
    yield dict(decayed=DECAYED, start=start.tolist(), rates=rates, gradients=[g.tolist() for g in gradients])
    for name, spec in CASES.items():
        yield record(name, spec, start, rates, gradients)


def write(name, cases):
    rounded = lambda x: float(f"{x:.9g}") if isinstance(x, float) else [rounded(v) for v in x] if isinstance(x, list) else {k: rounded(v) for k, v in x.items()} if isinstance(x, dict) else x
    with open(os.path.join(FOLDER, name), "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(rounded(c)) for c in cases) + "\n]\n")


torch.set_num_threads(1)
write("optimizers.json", list(optimizers()))
write("schedules.json", list(schedules()))
