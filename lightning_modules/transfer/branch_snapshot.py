"""Snapshots of training, their merges, and the validation scores of weights that are only tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.checkpoints import map_tensors
from lightning_modules.module import MultiTaskModule
from lightning_modules.state_dicts import weighted_state
from pollinate.reproducibility import random_states, restore_random_states


@dataclass
class BranchSnapshot:
    """Copies that later steps don't touch.

    weights: the module's state.
    optimizer: the optimizer's state, with the learning rates.
    schedule: where the schedule stands.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]

    @classmethod
    def of(cls, trainer: Trainer, module: LightningModule) -> BranchSnapshot:
        """Take one."""
        return cls(
            {name: value.detach().clone() for name, value in module.state_dict().items()},
            deepcopy(trainer.optimizers[0].state_dict()),
            deepcopy(trainer.lr_scheduler_configs[0].scheduler.state_dict()),
        )

    def restore(self, trainer: Trainer, module: LightningModule) -> None:
        """Train on from here."""
        load_weights(module, self.weights)
        trainer.optimizers[0].load_state_dict(deepcopy(self.optimizer))
        trainer.lr_scheduler_configs[0].scheduler.load_state_dict(deepcopy(self.schedule))

    def with_schedule_of(self, end: BranchSnapshot) -> BranchSnapshot:
        """Return the same with the learning rates and the schedule's place of a later one."""
        optimizer = {**self.optimizer, "param_groups": end.optimizer["param_groups"]}
        return BranchSnapshot(self.weights, optimizer, end.schedule)

    def broadcast(self, trainer: Trainer, owner: int) -> BranchSnapshot:
        """Return a process' snapshot on all processes, in main memory."""
        own = map_tensors(self.state_dict(), lambda _, tensor: tensor.cpu())
        return BranchSnapshot(**trainer.strategy.broadcast(own, owner))

    def state_dict(self) -> dict[str, Any]:
        return {
            "weights": self.weights,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }


def merge_snapshots(
    branches: Sequence[BranchSnapshot], coefficients: Sequence[float]
) -> BranchSnapshot:
    """Return sum_b l_b w_b, with the optimizer's state of the branch with the largest l_b.

    A state of moments has no meaningful mean: a branch may lack that of a head it didn't train.
    """
    # a state that isn't known yet is NaN, also times 0
    parts = [(b, share) for b, share in zip(branches, coefficients, strict=True) if share > 0]
    common = set.intersection(*(set(branch.weights) for branch, _ in parts))
    weights = weighted_state(
        [{name: branch.weights[name] for name in common} for branch, _ in parts],
        [share for _, share in parts],
    )
    largest, _ = max(parts, key=lambda part: part[1])
    return BranchSnapshot(weights, largest.optimizer, largest.schedule)


def load_weights(module: LightningModule, weights: Mapping[str, Tensor]) -> None:
    """Give a module its weights; a state that a balancer has made since begins at zero again."""
    own = module.state_dict()
    zeros = {name: torch.zeros_like(own[name]) for name in own.keys() - weights.keys()}
    module.load_state_dict({**weights, **zeros})


def validation_scores(
    trainer: Trainer, module: MultiTaskModule, data: MixedDataModule
) -> dict[str, float]:
    """Return {task: main score} on the validation split, of all processes' rows.

    Nothing of the training changes: neither modes nor random states.
    """
    modes = {part: part.training for part in module.modules()}
    states = random_states()
    module.eval()
    with torch.no_grad(), trainer.precision_plugin.val_step_context():
        for number, batch in enumerate(data.evaluation_loader("valid")):
            batch = trainer.precision_plugin.convert_input(batch)
            module.validation_step(trainer.strategy.batch_to_device(batch), number)
    numbers, _ = module.scores.take()
    restore_random_states(states)
    for part, mode in modes.items():
        part.training = mode
    return {task: own[module.tasks[task].score] for task, own in numbers.items()}
