"""Lets encoders train as much as the step allows."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules.multitask import multitask
from lightning_modules.tuning.base import SteppedTuning


class Tune(Callback):
    """Asks each encoder's tuning before each batch; it answers by the step's number alone."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Freeze and unfreeze."""
        module = multitask(pl_module)
        changed = [
            tuning.at(module.network.encoder(name), trainer.global_step)
            for name, tuning in module.network.tunings.items()
            if isinstance(tuning, SteppedTuning)
        ]
        if any(changed):
            module.meeting.forget()
