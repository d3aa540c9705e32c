"""What the module measures reaches any logger, under its name and step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules.module import as_multitask as module_of
from tests.tiny import Recorder, multitask, ready, trainer

EPOCH_STEPS = 4


def measured(folder: Path, every: int = 2, **options: Any) -> Recorder:
    """Train two epochs and test."""
    data, spy = ready(), Recorder()
    module = multitask(data)
    fit = trainer(folder, max_epochs=2, logger=spy, log_every_n_steps=every, **options)
    fit.fit(module, datamodule=data)
    fit.test(module, datamodule=data, verbose=False)
    return spy


def test_names(tmp_path: Path) -> None:
    names = {name for _, metrics in measured(tmp_path).lines for name in metrics}
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
    data, spy = ready(), Recorder()
    module = multitask(data)
    module.network.trunk.gauges = lambda tasks: {f"gate/{t}/x": 0.5 for t in tasks}  # type: ignore[method-assign]
    fit = trainer(tmp_path, max_epochs=1, logger=spy, log_every_n_steps=2)
    fit.fit(module, datamodule=data)
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
    data, spy = ready(), Recorder()
    module = multitask(data)
    fit = trainer(tmp_path, max_epochs=1, logger=spy)
    fit.fit(module, datamodule=data)
    fit.test(module, datamodule=data, verbose=False)
    assert module.results.keys() == module.confusion.keys() == {"valid", "test"}
    assert module.confusion["test"]["notes"].sum() == 10
    assert module.results["test"]["notes"]["accuracy"] == spy.latest["test/notes/accuracy"]


class Unlabelled(Callback):
    """Makes each step look like one of which no row has a label."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        module_of(pl_module).losses = {}


def test_a_step_without_any_label_is_measured(tmp_path: Path) -> None:
    data, spy = ready(), Recorder()
    fit = trainer(tmp_path, [Unlabelled()], max_epochs=1, logger=spy, log_every_n_steps=1)
    fit.fit(multitask(data), datamodule=data)
    assert spy.steps("rows/notes") == [1, 2, 3, 4]
    assert spy.steps("weight/notes") == []


class Stop(Callback):
    """Asks the trainer to stop after 3 steps."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        trainer.should_stop |= trainer.global_step >= 3


def test_nothing_is_logged_twice_when_the_trainer_stops(tmp_path: Path) -> None:
    data, spy = ready(), Recorder()
    fit = trainer(tmp_path, [Stop()], max_epochs=2, logger=spy, log_every_n_steps=2)
    fit.fit(multitask(data), datamodule=data)
    assert spy.steps("train/notes/loss") == [2]
    assert spy.steps("valid/score") == spy.steps("train/notes/accuracy") == [3]


def test_values_are_not_rounded(tmp_path: Path) -> None:
    data, spy = ready(), Recorder()
    module = multitask(data)
    module.lr = 1 / 3
    trainer(tmp_path, max_epochs=1, logger=spy, log_every_n_steps=2).fit(module, datamodule=data)
    assert spy.latest["lr/all"] == 1 / 3


def test_a_sanity_check_leaves_no_metric(tmp_path: Path) -> None:
    data, spy = ready(), Recorder()
    module = multitask(data)
    seen: list[dict[str, Any]] = []

    class Look(Callback):
        def on_train_start(self, trainer: Trainer, *_: Any) -> None:
            seen.append(dict(trainer.callback_metrics) | module.results | module.confusion)

    fit = trainer(tmp_path, [Look()], max_epochs=1, logger=spy, num_sanity_val_steps=2)
    fit.fit(module, datamodule=data)
    assert seen == [{}]
    assert spy.steps("valid/score") == [4]
    assert module.confusion["valid"]["notes"].sum() == 10  # the check's rows aren't counted


def test_a_trainer_that_logs_nothing_trains(tmp_path: Path) -> None:
    data = ready()
    fit = Trainer(accelerator="cpu", barebones=True, max_epochs=1, default_root_dir=tmp_path)
    fit.fit(multitask(data), datamodule=data)
    assert fit.global_step == 4
