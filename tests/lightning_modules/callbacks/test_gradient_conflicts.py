"""Looking at the tasks' gradients."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.balancers.equal import Equal
from lightning_modules.balancers.graddrop import GradDrop
from lightning_modules.balancers.mgda import MGDA
from lightning_modules.callbacks.gradient_conflicts import (
    MOST_TASKS,
    LogGradientConflicts,
    gradient_metrics,
)
from tests.tiny import Recorder, multitask, ready, task, texts, trainer

KINDS = ["p" if row % 3 else "q" for row in range(40)]
NAMES = {
    "gradient/norm/tone",
    "gradient/norm/kind",
    "gradient/cosine/tone/kind",
    "gradient/conflicts",
}


def fit(folder: Path, every: int, balancer: Any) -> tuple[Recorder, Any]:
    """Train two tasks of the same rows for eight steps."""
    tasks = {"tone": task("notes"), "kind": task("notes", target="kind")}
    data, spy = ready({"notes": texts(40, kind=KINDS)}, tasks, dropout=0.0), Recorder()
    module = multitask(data, balancer=balancer)
    fit = trainer(folder, [LogGradientConflicts(every)], max_epochs=-1, max_steps=8, logger=spy)
    fit.fit(module, datamodule=data)
    return spy, module


@pytest.mark.parametrize(
    "balancer", [Equal, MGDA, partial(MGDA, level="parameters"), GradDrop], ids=str
)
def test_every_n_steps(balancer: Any, tmp_path: Path) -> None:
    spy, _ = fit(tmp_path, 3, balancer)
    seen = [(step, metrics) for step, metrics in spy.lines if "gradient/conflicts" in metrics]
    assert [step for step, _ in seen] == [1, 4, 7]  # of the steps 0, 3 and 6, once they are done
    for _, metrics in seen:
        assert metrics.keys() == NAMES
        assert abs(metrics["gradient/cosine/tone/kind"]) <= 1 + 1e-9
        assert metrics["gradient/norm/tone"] > 0


def test_never(tmp_path: Path) -> None:
    spy, _ = fit(tmp_path, 0, Equal)
    assert not any("gradient/conflicts" in metrics for _, metrics in spy.lines)


@pytest.mark.parametrize("balancer", [Equal, GradDrop])
def test_looking_changes_nothing(balancer: Any, tmp_path: Path) -> None:
    _, watched = fit(tmp_path / "a", 1, balancer)
    _, alone = fit(tmp_path / "b", 0, balancer)
    states = watched.state_dict(), alone.state_dict()
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())


def test_metrics_of_a_gramian() -> None:
    gramian = torch.tensor([[4.0, -2.0, 0.0], [-2.0, 4.0, 0.0], [0.0, 0.0, 0.0]]).double()
    assert gradient_metrics(("a", "b", "c"), gramian) == pytest.approx(
        {
            "gradient/norm/a": 2.0,
            "gradient/norm/b": 2.0,
            "gradient/norm/c": 0.0,
            "gradient/cosine/a/b": -0.5,
            "gradient/cosine/a/c": 0.0,
            "gradient/cosine/b/c": 0.0,
            "gradient/conflicts": 1 / 3,
        }
    )


def test_many_tasks_have_no_metric_for_each_pair() -> None:
    names = [f"t{i}" for i in range(MOST_TASKS + 1)]
    found = gradient_metrics(names, torch.eye(len(names)).double())
    assert found.keys() == {"gradient/conflicts", *(f"gradient/norm/{name}" for name in names)}


def test_one_task_has_no_pairs() -> None:
    assert gradient_metrics(["a"], torch.eye(1).double()) == {"gradient/norm/a": 1.0}
