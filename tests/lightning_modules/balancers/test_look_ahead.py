"""Auto-Lambda's look ahead in a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.samplers.uniform import Uniform
from lightning_modules.balancers.auto_lambda import AutoLambda
from pollinate.errors import UsageError
from tests.processes import SGD
from tests.tiny import images, multitask, ready, task, texts, trainer

DATA = {"notes": texts(40), "shapes": images(24)}
TASKS = {"a": task("notes"), "b": task("shapes")}


class Probes(Callback):
    """Notes the weights and the network at each step, and whether the probe has been let go."""

    def __init__(self) -> None:
        self.weights: list[list[float]] = []
        self.released: list[bool] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: object
    ) -> None:
        balancer = pl_module.balancer
        assert isinstance(balancer, AutoLambda)
        self.weights.append(balancer.weight.tolist())
        self.released.append(balancer.probe is None)


def fitted(folder: Path, parts: int, trial_lr: float | None) -> Probes:
    module = ready(DATA, TASKS, Uniform(8), dropout=0.1)
    balancer = partial(AutoLambda, trial_lr=trial_lr, lr=0.1)
    model = multitask(module, balancer=lambda tasks: balancer(list(tasks)), optimizer=SGD)
    seen = Probes()
    fit = trainer(
        folder,
        max_epochs=-1,
        max_steps=3,
        accumulate_grad_batches=parts,
        limit_val_batches=0,
        callbacks=[seen],
    )
    fit.fit(model, datamodule=module)
    return seen


def test_it_learns_in_the_first_step(tmp_path: Path) -> None:
    ahead = fitted(tmp_path / "ahead", 2, 0.1)
    back = fitted(tmp_path / "back", 2, None)
    assert ahead.weights[0] == [1.0, 1.0]  # the first of two parts
    assert ahead.weights[1] != [1.0, 1.0]
    assert back.weights[1] == [1.0, 1.0]
    assert all(ahead.released)


def test_it_needs_parts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="accumulate_grad_batches >= 2, got 1"):
        fitted(tmp_path, 1, 0.1)
