"""Scores of weights that are only tried."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer

from datamodules.mixed import MixedDataModule
from lightning_modules.multitask import MultiTaskModule
from pipeline.reproduce import random_states, restore_random_states


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
