"""Stops at a loss that is no number, before it reaches the weights."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules.batch import MixedBatch
from lightning_modules.callbacks.stop import any_rank
from lightning_modules.multitask import MultiTaskModule, multitask
from pipeline.errors import PollinateError


class NonFinite(Callback):
    """Names task, step and rows, saves the batch, and stops the run on all ranks.

    Args:
        folder: where the batch is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._batch: MixedBatch | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: MixedBatch, batch_idx: int
    ) -> None:
        """Remember the batch."""
        self._batch = batch

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Check the objective.

        Raises:
            PollinateError: it is NaN or infinite on any rank.
        """
        here = not torch.isfinite(loss).item()
        if multitask(pl_module).meeting.local:
            # the others ask, in the same exchange, when they come to their next synchronisation
            found = here and any_rank(here, trainer)
        else:
            found = any_rank(here, trainer)
        if not found:
            return
        step = trainer.global_step + 1
        if not here:
            raise PollinateError(f"the loss isn't finite at step {step}, on another process")
        path = self.folder / f"bad-batch-step{step}-rank{trainer.global_rank}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(plain(self._batch), path)
        raise PollinateError(
            f"the loss isn't finite at step {step}: {describe(multitask(pl_module), self._batch)}. "
            f"The batch is saved in {path}; look at its inputs and targets, lower optimizer.lr, or "
            "set trainer.gradient_clip_val. The last checkpoint is from before this step"
        )


def ask_others(trainer: Trainer) -> None:
    """Ask the processes that have stepped on their own since they exchanged anything.

    Raises:
        PollinateError: one met a loss that isn't finite.
    """
    if any_rank(False, trainer):
        raise PollinateError(
            f"the loss isn't finite on another process, by step {trainer.global_step}"
        )


def describe(module: MultiTaskModule, batch: MixedBatch | None) -> str:
    """Name the tasks whose loss isn't finite, and their rows in this step."""
    bad = [task for task, loss in module.losses.items() if not torch.isfinite(loss)]
    if batch is None or not bad:
        return "every task's loss is finite, but not the sum that the balancer made of them"
    parts = []
    for task in bad:
        for name in module.network.routes[task]:
            if name in batch.batches:
                rows = batch.batches[name].index.tolist()
                shown = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
                loss = module.losses[task].item()
                parts.append(f"task {task} is {loss} (data set {name}, training rows {shown})")
    return "; ".join(parts)


def plain(batch: MixedBatch | None) -> dict[str, object]:
    """Return a batch as plain containers, loadable with weights_only."""
    if batch is None:
        return {}
    return {
        name: {
            "inputs": b.inputs,
            "targets": b.targets,
            "present": b.present,
            "index": b.index,
            "kept": {modality: kept.features.pooled for modality, kept in b.kept.items()},
        }
        for name, b in batch.batches.items()
    }
