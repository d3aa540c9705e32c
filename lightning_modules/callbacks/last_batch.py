"""The rows of a process's last batch, for a crash report."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules.batch import MixedBatch


class LastBatch(Callback):
    """Remembers the identity of the last batch; the batch itself can be freed."""

    def __init__(self) -> None:
        self.stage: str | None = None  # training, validation or test; None before the first batch
        self.epoch = 0
        self.step = 0  # optimizer steps done before it
        self.batch_idx = 0  # in the epoch, or in the pass over a split
        self.rows: dict[str, Tensor] = {}  # {data set: (n,) numbers of its rows in their split}

    def describe(self) -> list[str]:
        """Return lines for people."""
        if self.stage is None:
            return ["batch:     none yet"]
        where = f"{self.stage} batch {self.batch_idx} of epoch {self.epoch}"
        lines = [f"batch:     {where}, after {self.step} optimizer steps"]
        return lines + [f"  rows of {name}: {rows.tolist()}" for name, rows in self.rows.items()]

    def _note(self, stage: str, trainer: Trainer, batch: Any, batch_idx: int) -> None:
        self.stage, self.batch_idx = stage, batch_idx
        self.epoch, self.step = trainer.current_epoch, trainer.global_step
        batches = batch.batches if isinstance(batch, MixedBatch) else {}
        self.rows = {name: one.index for name, one in batches.items()}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._note("training", trainer, batch, batch_idx)

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._note("validation", trainer, batch, batch_idx)

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._note("test", trainer, batch, batch_idx)
