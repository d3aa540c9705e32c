"""Optimizer, parameter groups and learning-rate schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules.schedules.base import Schedule
from lightning_modules.schedules.one_cycle import OneCycle
from pollinate.errors import UsageError

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm, _NormBase)
OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]


def parameter_groups(
    roots: Mapping[str, nn.Module], lr: float, lr_scale: Mapping[str, float], decay: bool
) -> list[dict[str, Any]]:
    """Group trainable parameters by part and by whether weight decay applies.

    Norms, biases and scalars (log-variances, say) don't decay. A parameter belongs to the part
    whose name is the longest prefix of its own; parts scale the learning rate.

    Args:
        roots: {"": network, "balancer": balancer}: names of parameters start with the key.
        lr: learning rate of what no part names.
        lr_scale: {part: factor}, parts like ``encoders.text``, ``trunk``, ``heads.digit``.
        decay: whether the optimizer has a weight decay that must be switched off.

    Raises:
        UsageError: a part that matches no parameter.
    """
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    matched = set()
    for name, parameter, plain in _named_parameters(roots):
        part = max((p for p in lr_scale if f"{name}.".startswith(f"{p}.")), key=len, default="")
        matched.add(part)
        key = (part, plain)
        if key not in groups:
            groups[key] = {"params": [], "lr": lr * lr_scale.get(part, 1.0), "part": part or "all"}
            if plain and decay:
                groups[key]["weight_decay"] = 0.0
        groups[key]["params"].append(parameter)
    unmatched = sorted(set(lr_scale) - matched)
    if unmatched:
        parts = sorted({".".join(n.split(".")[:2]) for n, _, _ in _named_parameters(roots)})
        raise UsageError(
            f"optimizer.lr_scale names {', '.join(unmatched)}, which no parameter belongs to; "
            f"parts are {', '.join(parts)}"
        )
    return list(groups.values())


def _named_parameters(
    roots: Mapping[str, nn.Module],
) -> Iterable[tuple[str, nn.Parameter, bool]]:
    """Yield (name, parameter, whether it is exempt from decay), each parameter once."""
    seen: set[int] = set()
    for root, module in roots.items():
        for owner_name, owner in module.named_modules(prefix=root):
            for local, parameter in owner.named_parameters(recurse=False):
                if parameter.requires_grad and id(parameter) not in seen:
                    seen.add(id(parameter))
                    plain = isinstance(owner, NORMS) or local.endswith("bias") or parameter.ndim < 2
                    yield f"{owner_name}.{local}".lstrip("."), parameter, plain


def schedule_optimizer(optimizer: Optimizer, schedule: Schedule, steps: int | None) -> LambdaLR:
    """Return the scheduler that applies ``schedule`` once an optimizer step, over ``steps``."""
    return LambdaLR(optimizer, lambda step: schedule.factor(step, steps))


@dataclass
class Optimization:
    """How the weights move.

    optimizer: makes the torch optimizer from parameter groups.
    schedule: factor on the learning rate.
    lr: learning rate, > 0.
    lr_scale: {part of the model: factor on lr}.
    decay: whether the optimizer has a weight decay, to be switched off for norms and biases.
    max_steps: optimizer steps after which the run stops, or None.
    """

    optimizer: OptimizerFactory
    schedule: Schedule
    lr: float
    lr_scale: Mapping[str, float]
    decay: bool
    max_steps: int | None = None


LR, DECAY = 4e-3, 0.01  # of AdamW, where nothing else is said


def optimization_of(
    optimizer: OptimizerFactory | Optimization | None,
    lr: float | None,
    lr_scale: Mapping[str, float] | None,
    schedule: Schedule | None,
) -> Optimization:
    """Return how the weights move, with defaults for what isn't given.

    Args:
        optimizer: a class of ``torch.optim``, a ``functools.partial`` of one, or all of it at once.
        lr: learning rate, > 0; None: that of ``optimizer``, or ``LR``.
        lr_scale: {part of the model: factor on lr}.
        schedule: None: ``OneCycle``.

    Raises:
        UsageError: the optimizer was made already, or the learning rate isn't positive.
    """
    if isinstance(optimizer, Optimization):
        return optimizer
    if optimizer is None:
        optimizer = partial(AdamW, weight_decay=DECAY)
    kind = optimizer.func if isinstance(optimizer, partial) else optimizer
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
        raise UsageError(
            "optimizer must be a class of torch.optim, or functools.partial of one, got "
            f"{optimizer!r:.60}; its parameters come later: optimizer=torch.optim.AdamW, lr=1e-3"
        )
    known = optimizer.keywords if isinstance(optimizer, partial) else {}
    lr = float(known.get("lr", LR)) if lr is None else lr
    if not lr > 0:
        raise UsageError(f"lr must be > 0, got {lr}")
    decay = "weight_decay" in signature(kind).parameters
    return Optimization(optimizer, schedule or OneCycle(), lr, lr_scale or {}, decay)
