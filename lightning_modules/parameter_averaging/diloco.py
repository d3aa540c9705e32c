"""DiLoCo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_modules.parameter_averaging.base import ParameterAveraging
from pollinate.errors import UsageError


class DiLoCo(ParameterAveraging):
    """An outer optimizer takes the mean change of H steps for a gradient, every H steps.

    g = w - mean_r w_r;  v <- m v + g;  w <- w - l (g + m v)

    that is SGD with Nesterov momentum. With l = 1 and m = 0 it is local SGD.

    Args:
        every_n_steps: H, optimizer steps between two synchronisations, >= 1.
        lr: l, > 0.
        momentum: m, in [0, 1).

    Raises:
        UsageError: a value is out of range.

    Source: Douillard et al. 2023, "DiLoCo: Distributed Low-Communication Training of Language
    Models", algorithm 1; outer learning rate 0.7 and momentum 0.9 are its section 3's. Deviations:
    a validation and an epoch's end synchronise, too; running statistics of norms are averaged.

    Examples:
        >>> import torch, pollinate as po
        >>> method = po.averaging.DiLoCo(every_n_steps=50, lr=0.7, momentum=0.9)
        >>> start, mean = {"w": torch.tensor([1.0])}, {"w": torch.tensor([0.5])}
        >>> method.step(start, mean)  # 1 - 0.7 (0.5 + 0.9 * 0.5)
        {'w': tensor([0.3350])}
    """

    copies = 2  # the start and the velocity

    def __init__(self, every_n_steps: int = 50, lr: float = 0.7, momentum: float = 0.9) -> None:
        super().__init__(every_n_steps)
        if not lr > 0:
            raise UsageError(f"lr must be > 0, got {lr}; 1 with momentum 0 is local SGD")
        if not 0 <= momentum < 1:
            raise UsageError(f"momentum must be in [0, 1), got {momentum}")
        self.lr = lr
        self.momentum = momentum
        self.velocity: dict[str, Tensor] = {}

    def step(self, start: Mapping[str, Tensor], mean: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights after an outer step; it is computed in 32 bits or more."""
        moved = {}
        for name, before in start.items():
            kind = torch.promote_types(before.dtype, torch.float32)
            gradient = before.to(kind) - mean[name].to(kind)
            velocity = self.velocity.get(name, torch.zeros_like(gradient)).to(gradient.device)
            kept = velocity * self.momentum + gradient
            self.velocity[name] = kept
            change = gradient + self.momentum * kept
            moved[name] = (before.to(kind) - self.lr * change).to(before.dtype)
        return moved

    def state_dict(self) -> dict[str, Any]:
        return {"velocity": {name: value.cpu() for name, value in self.velocity.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.velocity = dict(state["velocity"])
