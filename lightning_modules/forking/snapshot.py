"""All that training from a point depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_modules.averaging import combined
from pipeline.shards import mapped


@dataclass
class Snapshot:
    """Copies that later steps don't touch.

    weights: the module's state.
    optimizer: the optimizer's state, with the learning rates.
    schedule: where the schedule stands.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]

    @classmethod
    def of(cls, trainer: Trainer, module: LightningModule) -> Snapshot:
        """Take one."""
        return cls(
            {name: value.detach().clone() for name, value in module.state_dict().items()},
            deepcopy(trainer.optimizers[0].state_dict()),
            deepcopy(trainer.lr_scheduler_configs[0].scheduler.state_dict()),
        )

    def put(self, trainer: Trainer, module: LightningModule) -> None:
        """Train on from here."""
        load(module, self.weights)
        trainer.optimizers[0].load_state_dict(deepcopy(self.optimizer))
        trainer.lr_scheduler_configs[0].scheduler.load_state_dict(deepcopy(self.schedule))

    def later(self, end: Snapshot) -> Snapshot:
        """Return the same with the learning rates and the schedule's place of a later one."""
        optimizer = {**self.optimizer, "param_groups": end.optimizer["param_groups"]}
        return Snapshot(self.weights, optimizer, end.schedule)

    def shared(self, trainer: Trainer, owner: int) -> Snapshot:
        """Return a process' snapshot on all processes, in main memory."""
        own = mapped(self.state_dict(), lambda _, tensor: tensor.cpu())
        return Snapshot(**trainer.strategy.broadcast(own, owner))

    def state_dict(self) -> dict[str, Any]:
        """Return plain containers."""
        return {
            "weights": self.weights,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }


def merged(branches: Sequence[Snapshot], coefficients: Sequence[float]) -> Snapshot:
    """Return sum_b l_b w_b, with the optimizer's state of the branch with the largest l_b.

    A state of moments has no meaningful mean: a branch may lack that of a head it didn't train.
    """
    # a state that isn't known yet is NaN, also times 0
    parts = [(b, share) for b, share in zip(branches, coefficients, strict=True) if share > 0]
    common = set.intersection(*(set(branch.weights) for branch, _ in parts))
    weights = combined(
        [{name: branch.weights[name] for name in common} for branch, _ in parts],
        [share for _, share in parts],
    )
    kept, _ = max(parts, key=lambda part: part[1])
    return Snapshot(weights, kept.optimizer, kept.schedule)


def load(module: LightningModule, weights: Mapping[str, Tensor]) -> None:
    """Give a module its weights; a state that a balancer has made since begins at zero again."""
    own = module.state_dict()
    later = {name: torch.zeros_like(own[name]) for name in own.keys() - weights.keys()}
    module.load_state_dict({**weights, **later})
