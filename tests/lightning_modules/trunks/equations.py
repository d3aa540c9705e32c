"""A trunk is compared with its equation, row by row and number by number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.features import Features

DIM = 4
TASKS = ("a", "b", "c")


def drawn(trunk: nn.Module) -> Any:
    """The trunk with random parameters, none of them special."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.normal_(std=0.5)
    return trunk.eval()


def number(value: Tensor) -> float:
    """The value of a tensor of one number."""
    return value.detach().item()


def check(trunk: Any, expected: Callable[[str, Tensor], Tensor]) -> None:
    """Compare every task's rows of one data set with the equation, a row at a time."""
    rows = torch.randn(5, DIM, generator=torch.Generator().manual_seed(2))
    found = trunk({"x": Features(rows)}, dict.fromkeys(TASKS, ("x",)))
    for task in TASKS:
        for row, own in zip(rows, found[task][0], strict=True):
            assert torch.allclose(own, expected(task, row), atol=1e-5), task


def gate(module: Any, x: Tensor) -> list[float]:
    """softmax(W norm(x))."""
    scores = [math.exp(number(w @ module.norm(x))) for w in module.project.weight]
    return [score / sum(scores) for score in scores]


def weighted(weights: Any, vectors: Any) -> Tensor:
    """sum_e w_e v_e."""
    return sum(w * v for w, v in zip(weights, vectors, strict=True))  # type: ignore[return-value]
