"""How the weights move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_modules.optimizers import OptimizerFactory
from lightning_modules.schedules.base import Schedule


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
