"""When a run ends before its last epoch."""

from __future__ import annotations

from typing import NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pipeline.errors import PollinateError
from pipeline.interrupt import StopRequest


class InterruptedRunError(PollinateError):
    """The run was stopped by a signal, after its state was saved; ``signal_name`` says which."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(f"stopped by {signal_name}")
        self.signal_name = signal_name


class Stop(Callback):
    """Stops after ``max_steps`` optimizer steps, and knows of signals.

    Lightning's own max_steps isn't used: with it, a run that is resumed between two epochs counts
    an epoch twice (lightning 2.6).

    Args:
        request: set by a signal handler.
        max_steps: optimizer steps, >= 1, or None.
    """

    def __init__(self, request: StopRequest, max_steps: int | None = None) -> None:
        self.request = request
        self.max_steps = max_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, after Lightning took them; end at once if all steps are done."""
        self.request.install()
        trainer.should_stop |= self.at_last_step(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Ask the trainer to stop at the last step."""
        trainer.should_stop |= self.at_last_step(trainer)

    def at_last_step(self, trainer: Trainer) -> bool:
        """Say whether all optimizer steps are done."""
        return self.max_steps is not None and trainer.global_step >= self.max_steps

    def requested(self, trainer: Trainer) -> bool:
        """Say whether a signal came to any rank; every rank gets the same answer."""
        return any_rank(self.request.signal_name is not None, trainer)

    def interrupt(self) -> NoReturn:
        """Leave training; the state has been saved."""
        raise InterruptedRunError(self.request.signal_name or "a signal to another process")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        self.request.restore()


def any_rank(flag: bool, trainer: Trainer) -> bool:
    """Say whether the flag is set on any rank; every rank gets the same answer."""
    if trainer.world_size == 1:
        return flag
    value = torch.tensor(int(flag), device=trainer.strategy.root_device)
    torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX)
    return bool(value.item())
