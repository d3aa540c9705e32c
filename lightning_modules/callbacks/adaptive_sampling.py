"""Tells the sampler how the tasks do."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.samplers.base import Sampler
from lightning_modules.callbacks.measure import Measure
from lightning_modules.module import as_multitask


class AdaptSampler(Callback):
    """Gives the sampler each task's main score after every validation of the training.

    Args:
        sampler: may change the shares of later epochs.
        measure: has the scores; acts before.
    """

    def __init__(self, sampler: Sampler, measure: Measure) -> None:
        self.sampler = sampler
        self.measure = measure

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand the scores over; they are those of all ranks, so every rank does the same."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        tasks = as_multitask(pl_module).tasks
        scores = self.measure.stage_scores["valid"]
        self.sampler.observe({task: own[tasks[task].score] for task, own in scores.items()})
