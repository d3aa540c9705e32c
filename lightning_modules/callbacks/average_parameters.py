"""Averages the weights of processes that step on their own."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_modules.callbacks.stopping import raise_if_others_nonfinite
from lightning_modules.distributed import mean_over_processes, moving_buffers, trained_parameters
from lightning_modules.module import MultiTaskModule, as_multitask
from lightning_modules.parameter_averaging.base import ParameterAveraging


class AverageParameters(Callback):
    """Averages every H optimizer steps, before a validation and at an epoch's end.

    Checkpoints are written, and a signal ends the run, only when nothing has moved since: all
    processes have the same weights then. Between two synchronisations nothing is sent at all.

    Args:
        averaging: makes of the processes' mean the weights with which all go on.
    """

    def __init__(self, averaging: ParameterAveraging) -> None:
        self.averaging = averaging
        self._start: dict[str, Tensor] = {}  # parameters of the synchronisation before
        self._step = 0  # optimizer steps that were done then

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take note of where all processes start."""
        self._keep(trainer, self._parameters(trainer, as_multitask(pl_module)))

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Synchronise if it is time to."""
        module = as_multitask(pl_module)
        module.engine.weights_differ = trainer.global_step > self._step
        if trainer.global_step - self._step >= self.averaging.every_n_steps:
            self._synchronise(trainer, module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate what all processes have in common."""
        self._synchronise(trainer, as_multitask(pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave nothing under way after an epoch, with or without a validation."""
        self._synchronise(trainer, as_multitask(pl_module))

    def state_dict(self) -> dict[str, Any]:
        """Return what is the same on all processes."""
        return {"averaging": self.averaging.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.averaging.load_state_dict(state_dict["averaging"])

    @torch.no_grad()
    def _synchronise(self, trainer: Trainer, module: MultiTaskModule) -> None:
        """Average, unless nothing moved.

        Raises:
            PollinateError: another process met a loss that isn't finite.
        """
        if not module.engine.weights_differ:
            return
        raise_if_others_nonfinite(trainer)
        traffic = module.engine.traffic
        own = self._parameters(trainer, module)
        moved = self.averaging.step(self._start, mean_over_processes(own, traffic))
        for name, tensor in own.items():
            tensor.copy_(moved[name])
        buffers = moving_buffers(module.network)
        for name, mean in mean_over_processes(buffers, traffic).items():
            buffers[name].copy_(mean)
        traffic.synchronisations += 1
        module.engine.weights_differ = False
        self._keep(trainer, own)

    def _keep(self, trainer: Trainer, parameters: dict[str, Tensor]) -> None:
        self._step = trainer.global_step
        self._start = {name: tensor.clone() for name, tensor in parameters.items()}

    def _parameters(self, trainer: Trainer, module: MultiTaskModule) -> dict[str, Tensor]:
        groups = trainer.optimizers[0].param_groups
        return trained_parameters(module, [p for group in groups for p in group["params"]])
