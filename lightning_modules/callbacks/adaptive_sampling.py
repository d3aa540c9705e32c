"""Gives the tasks' validation scores to the sampler."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.samplers.base import Sampler
from lightning_modules.module import as_multitask


class AdaptSampler(Callback):
    """Gives the sampler each task's main score after every validation of the training.

    Args:
        sampler: may change the shares of later epochs.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand the scores over; they are those of all ranks, so every rank does the same."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        module = as_multitask(pl_module)
        scores = module.results["valid"].items()
        self.sampler.observe({task: own[module.tasks[task].score] for task, own in scores})
