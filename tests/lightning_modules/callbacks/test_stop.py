"""When a run ends before its last epoch."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from lightning_modules.callbacks.checkpoint import RunCheckpoint
from lightning_modules.callbacks.stop import InterruptedRunError, Stop
from pipeline.interrupt import StopRequest
from tests.tiny import multitask, ready, trainer


class Signal(Callback):
    """Sends a signal to this process in the middle of a hook's ``count``-th call."""

    def __init__(self, number: signal.Signals, hook: str, count: int) -> None:
        self.number = number
        self.count = count
        setattr(self, hook, self._hook)

    def _hook(self, *_: Any) -> None:
        self.count -= 1
        if self.count == 0:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_max_steps_counts_optimizer_steps(steps: int, accumulate: int, tmp_path: Path) -> None:
    data = ready()
    options = {"max_epochs": -1, "accumulate_grad_batches": accumulate}
    fit = trainer(tmp_path, [Stop(StopRequest(), steps)], **options)
    fit.fit(multitask(data), datamodule=data)
    assert fit.global_step == steps


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("hook", "count", "step"),
    [
        ("on_train_batch_start", 2, 2),  # the step is finished first
        ("on_validation_batch_start", 1, 4),  # the validation is finished first
        ("on_train_batch_start", 4, 4),  # the epoch's last step: its validation, too
    ],
)
def test_a_signal_stops_after_saving(
    number: signal.Signals, hook: str, count: int, step: int, tmp_path: Path
) -> None:
    data = ready()
    stop = Stop(StopRequest())
    keep = RunCheckpoint(tmp_path, stop, every_n_steps=100, monitor="valid/score", mode="max")
    fit = trainer(tmp_path, [Signal(number, hook, count), stop, keep], max_epochs=3)
    before = signal.getsignal(number)
    with pytest.raises(InterruptedRunError, match=f"stopped by {number.name}") as caught:
        fit.fit(multitask(data), datamodule=data)
    assert caught.value.signal_name == number.name
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == fit.global_step == step
    assert signal.getsignal(number) is before
