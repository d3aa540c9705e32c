"""When a run ends before its last epoch."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from datamodules.batch import MixedBatch
from lightning_modules.callbacks import stopping as nonfinite
from lightning_modules.callbacks.checkpoint import RunCheckpoint
from lightning_modules.callbacks.stopping import (
    InterruptedRunError,
    StopAtNonFiniteLoss,
    StopTraining,
    raise_if_others_nonfinite,
)
from lightning_modules.module import MultiTaskModule
from pollinate.errors import PollinateError
from pollinate.interrupt import StopRequest
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
    fit = trainer(tmp_path, [StopTraining(StopRequest(), steps)], **options)
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
    stop = StopTraining(StopRequest())
    keep = RunCheckpoint(tmp_path, stop, every_n_steps=100, monitor="valid/score", mode="max")
    fit = trainer(tmp_path, [Signal(number, hook, count), stop, keep], max_epochs=3)
    before = signal.getsignal(number)
    with pytest.raises(InterruptedRunError, match=f"stopped by {number.name}") as caught:
        fit.fit(multitask(data), datamodule=data)
    assert caught.value.signal_name == number.name
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == fit.global_step == step
    assert signal.getsignal(number) is before


STEP = 3


class Poison(Callback):
    """Puts a value into one image of a step, and remembers the weights before it."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.rows: list[int] = []

    def on_train_batch_start(
        self, trainer: Any, pl_module: MultiTaskModule, batch: MixedBatch, batch_idx: int
    ) -> None:
        if batch_idx == STEP - 1:
            shapes = batch.batches["shapes"]
            shapes.inputs["image"][0, 0, 0, 0] = self.value
            self.rows = shapes.index.tolist()
            self.weights = {k: v.clone() for k, v in pl_module.state_dict().items()}


@pytest.fixture(params=[float("nan"), float("inf")], ids=str)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Poison, Any, Path]:
    """A run that meets a bad image: message, what was put in, module, folder."""
    data, poison = ready(), Poison(request.param)
    module = multitask(data)
    stop = StopTraining(StopRequest())
    keep = RunCheckpoint(tmp_path, stop, every_n_steps=1, monitor="valid/score", mode="max")
    fit = trainer(tmp_path, [StopAtNonFiniteLoss(tmp_path), poison, stop, keep], max_epochs=2)
    with pytest.raises(PollinateError) as caught:
        fit.fit(module, datamodule=data)
    return str(caught.value), poison, module, tmp_path


def test_message_names_task_step_and_rows(run: Any) -> None:
    message, poison, _, folder = run
    rows = ", ".join(map(str, poison.rows))
    assert re.match(
        rf"the loss isn't finite at step {STEP}: task shapes is (nan|inf) "
        rf"\(data set shapes, training rows {rows}\)\. The batch is saved in {folder}/bad-batch",
        message,
    )
    assert "task notes" not in message


def test_batch_is_saved_as_plain_values(run: Any) -> None:
    _, poison, _, folder = run
    saved = torch.load(folder / f"bad-batch-step{STEP}-rank0.pt", weights_only=True)
    assert saved.keys() == {"notes", "shapes"}
    assert saved["shapes"]["index"].tolist() == poison.rows
    assert not torch.isfinite(saved["shapes"]["inputs"]["image"][0, 0, 0, 0])


def test_weights_are_those_before_the_step(run: Any) -> None:
    _, poison, module, folder = run
    saved = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    for name, before in poison.weights.items():
        assert torch.equal(module.state_dict()[name], before)
        assert torch.equal(saved[name], before)


def test_processes_that_step_on_their_own_are_asked_at_their_synchronisation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def any_rank(flag: bool, device: object) -> bool:
        asked.append(flag)
        return len(asked) > 1

    monkeypatch.setattr(nonfinite, "any_rank", any_rank)
    fit = SimpleNamespace(global_step=7, strategy=SimpleNamespace(root_device="cpu"))
    raise_if_others_nonfinite(fit)  # type: ignore[arg-type]  # all that is asked for
    with pytest.raises(PollinateError, match="isn't finite on another process, by step 7"):
        raise_if_others_nonfinite(fit)  # type: ignore[arg-type]
    assert asked == [False, False]


def test_between_synchronisations_a_finite_loss_is_not_talked_about(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(nonfinite, "any_rank", lambda *_: pytest.fail("asked"))
    module = multitask(ready())
    module.engine.local = True
    fit: Any = SimpleNamespace(global_step=7)
    StopAtNonFiniteLoss(tmp_path).on_before_backward(fit, module, torch.tensor(1.0))


def test_a_finite_run_is_left_alone(tmp_path: Path) -> None:
    data = ready()
    fit = trainer(tmp_path, [StopAtNonFiniteLoss(tmp_path)], max_epochs=1)
    fit.fit(multitask(data), datamodule=data)
    assert fit.global_step == data.epoch_steps
    assert not list(tmp_path.glob("bad-batch*"))
