"""What the module gathers becomes named metrics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules.callbacks.measure import Measure
from lightning_modules.module import as_multitask as module_of
from tests.tiny import multitask, ready, trainer

EPOCH_STEPS = 4


class Spy(Measure):
    """Notes what is published: (step, metrics)."""

    def __init__(self, every_n_steps: int) -> None:
        super().__init__(every_n_steps)
        self.published: list[tuple[int, dict[str, float]]] = []

    def publish(self, trainer: Any, metrics: dict[str, float]) -> None:
        self.published.append((trainer.global_step, metrics))
        super().publish(trainer, metrics)

    def steps(self, name: str) -> list[int]:
        return [step for step, metrics in self.published if name in metrics]


def measured(folder: Path, every: int = 2, **options: Any) -> Spy:
    """Train two epochs and test."""
    data, spy = ready(), Spy(every)
    module = multitask(data)
    fit = trainer(folder, [spy], max_epochs=2, **options)
    fit.fit(module, datamodule=data)
    fit.test(module, datamodule=data, verbose=False)
    return spy


def test_names(tmp_path: Path) -> None:
    names = {name for _, metrics in measured(tmp_path).published for name in metrics}
    assert names == {
        "epoch",
        "lr/all",
        "train/steps_per_second",
        "valid/score",
        "test/score",
        *(
            f"{kind}/{task}"
            for kind in ("weight", "rows", "epoch_rows", "passes")
            for task in ("notes", "shapes")
        ),
        *(f"train/{task}/{name}" for task in ("notes", "shapes") for name in ("loss", "accuracy")),
        *(
            f"{split}/{task}/{name}"
            for split in ("valid", "test")
            for task in ("notes", "shapes")
            for name in ("loss", "accuracy", "f1")
        ),
        "valid/notes/auroc",  # two classes
        "test/notes/auroc",
    }


def test_what_the_trunk_gauges_is_logged(tmp_path: Path) -> None:
    data, spy = ready(), Spy(2)
    module = multitask(data)
    module.network.trunk.gauges = lambda tasks: {f"gate/{t}/x": 0.5 for t in tasks}  # type: ignore[method-assign]
    trainer(tmp_path, [spy], max_epochs=1).fit(module, datamodule=data)
    assert spy.steps("gate/notes/x") == spy.steps("gate/shapes/x") == [2, 4]


@pytest.mark.parametrize(("every", "expected"), [(1, [*range(1, 9)]), (3, [3, 6]), (100, [])])
def test_losses_are_logged_every_n_steps(every: int, expected: list[int], tmp_path: Path) -> None:
    assert measured(tmp_path, every).steps("train/notes/loss") == expected


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    spy = measured(tmp_path, 1, accumulate_grad_batches=2)
    assert spy.steps("train/notes/loss") == [1, 2, 3, 4]


def test_scores_are_logged_after_epochs(tmp_path: Path) -> None:
    spy = measured(tmp_path)
    assert spy.steps("valid/score") == spy.steps("train/notes/accuracy") == [4, 8]
    assert spy.steps("test/score") == [8]


def test_score_is_the_mean_of_the_tasks(tmp_path: Path) -> None:
    latest = measured(tmp_path).latest
    accuracies = [latest[f"valid/{task}/accuracy"] for task in ("notes", "shapes")]
    assert latest["valid/score"] == pytest.approx(sum(accuracies) / 2)
    assert all(math.isfinite(value) for value in latest.values())


def test_rows_are_counted(tmp_path: Path) -> None:
    latest = measured(tmp_path).latest
    assert latest["rows/notes"] + latest["rows/shapes"] == 2 * EPOCH_STEPS * 8


def test_every_score_and_matrix_is_kept(tmp_path: Path) -> None:
    spy = measured(tmp_path)
    assert spy.stage_scores.keys() == spy.matrices.keys() == {"valid", "test"}
    assert spy.matrices["test"]["notes"].sum() == 10
    assert spy.stage_scores["test"]["notes"]["accuracy"] == spy.latest["test/notes/accuracy"]


class Unlabelled(Callback):
    """Makes each step look like one of which no row has a label."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        module_of(pl_module).losses = {}


def test_a_step_without_any_label_is_measured(tmp_path: Path) -> None:
    data, spy = ready(), Spy(1)
    fit = trainer(tmp_path, [Unlabelled(), spy], max_epochs=1)
    fit.fit(multitask(data), datamodule=data)
    assert spy.steps("rows/notes") == [1, 2, 3, 4]
    assert spy.steps("weight/notes") == []
